//! Where a document's parts stand on A4 pages: head, parties, lines, sums, notes.
//!
//! A row is kept on one page if a page can hold it; the head of the table is repeated on each.

use super::{
    super::{
        document::{Document, Line, Party, Price, TierRow},
        error::FormError,
        html::is_language_tag,
        print,
    },
    fonts::{Fonts, Weight},
    page::{Align, Cell, Child, Column, MARGIN, Node, Part, Role, Sheet, WIDTH},
    scripts,
    text::{Ink, POINT, Setter, Style, TextLine},
};

const fn style(points: i32, weight: Weight, ink: Ink) -> Style {
    Style { size: points * POINT, weight, ink }
}

const TITLE: Style = style(20, Weight::Bold, Ink::Dark);
const STRONG: Style = style(9, Weight::Bold, Ink::Dark);
const TEXT: Style = style(9, Weight::Regular, Ink::Dark);
const LABEL: Style = style(8, Weight::Regular, Ink::Grey);
const SMALL: Style = style(8, Weight::Regular, Ink::Grey);
const HEAD: Style = style(8, Weight::Bold, Ink::Dark);
const DUE: Style = style(14, Weight::Bold, Ink::Dark);
const WARNING: Style = style(10, Weight::Bold, Ink::Red);
const PAID: Style = style(10, Weight::Bold, Ink::Dark);

/// Of text.
const LEADING: i32 = 13 * POINT;
/// Between parts.
const GAP: i32 = 22 * POINT;
/// Above and below the lines of a row.
const PADDING: i32 = 4 * POINT;
/// A rule.
const HAIR: i32 = POINT / 2;

const LEFT: Column = Column { x: MARGIN, width: WIDTH / 2 - 10 * POINT, align: Align::Left };
const RIGHT: Column = Column { x: MARGIN + WIDTH / 2 + 10 * POINT, width: WIDTH / 2 - 10 * POINT, align: Align::Left };
const WHOLE: Column = Column { x: MARGIN, width: WIDTH, align: Align::Left };

/// Description, quantity, unit price, amount.
const COLUMNS: [Column; 4] = [
    Column { x: MARGIN, width: 214 * POINT, align: Align::Left },
    Column { x: MARGIN + 222 * POINT, width: 84 * POINT, align: Align::Right },
    Column { x: MARGIN + 314 * POINT, width: 84 * POINT, align: Align::Right },
    Column { x: MARGIN + 406 * POINT, width: WIDTH - 406 * POINT, align: Align::Right },
];
/// The tiers of a line stand in from it.
const TIER: Column = Column { x: MARGIN + 12 * POINT, width: 202 * POINT, align: Align::Left };

/// Label and amount of a sum.
const SUM_LABEL: Column = Column { x: MARGIN + 222 * POINT, width: 150 * POINT, align: Align::Left };
const SUM_AMOUNT: Column = Column { x: MARGIN + 380 * POINT, width: WIDTH - 380 * POINT, align: Align::Right };

/// Pages and their structure.
pub(super) struct Layout {
    pub(super) sheet: Sheet,
    pub(super) nodes: Vec<Node>,
}

/// Lays a document out.
pub(super) fn lay_out(document: &Document, fonts: &Fonts) -> Result<Layout, FormError> {
    let mut typist = Typist { sheet: Sheet::new(), setter: Setter::new(fonts), nodes: Vec::new() };
    typist.head(document);
    typist.parties(document);
    typist.due(document);
    typist.table(document);
    typist.sums(document);
    typist.notes(document);
    let Typist { mut sheet, mut setter, nodes } = typist;
    let footer = format!("{} \u{b7} {}", print::heading(document), document.seller.name);
    sheet.number_pages(&mut setter, &footer, SMALL);
    setter.finish()?;
    Ok(Layout { sheet, nodes })
}

struct Typist<'a> {
    sheet: Sheet,
    setter: Setter<'a>,
    nodes: Vec<Node>,
}

impl Typist<'_> {
    fn paragraph(&mut self, text: &str, style: Style, column: Column, leading: i32, language: Option<&str>) {
        let lines = self.setter.lines(text, style, column.width, language);
        let mut node = self.sheet.lines(column, lines, leading, Role::Paragraph);
        node.language = language.map(str::to_owned);
        self.nodes.push(node);
    }

    /// Two parts beside each other; goes on below the longer one.
    fn beside(&mut self, left: impl FnOnce(&mut Self), right: impl FnOnce(&mut Self)) {
        let (top, page) = (self.sheet.y, self.sheet.pages.len());
        left(self);
        // A part that needs more than a page goes below the other one instead.
        let bottom = if self.sheet.pages.len() == page { std::mem::replace(&mut self.sheet.y, top) } else { 0 };
        right(self);
        if self.sheet.pages.len() == page {
            self.sheet.y = self.sheet.y.max(bottom);
        }
    }

    fn head(&mut self, document: &Document) {
        self.beside(
            |own| {
                let title = print::title(document.kind);
                let lines = own.setter.lines(title, TITLE, LEFT.width, None);
                let heading = own.sheet.lines(LEFT, lines, 25 * POINT, Role::Heading(print::heading(document)));
                own.nodes.push(heading);
            },
            |own| own.party(&document.seller, RIGHT),
        );
        if let Some(warning) = print::warning(document.kind) {
            self.sheet.y += GAP / 2;
            self.paragraph(warning, WARNING, WHOLE, LEADING, None);
        }
        if let Some(paid) = print::paid(document) {
            self.sheet.y += GAP / 2;
            self.paragraph(&paid, PAID, WHOLE, LEADING, None);
        }
        self.sheet.y += GAP;
    }

    fn fact(&mut self, label: &str, text: &str) {
        let label_column = Column { width: 62 * POINT, ..RIGHT };
        let column = Column { x: RIGHT.x + 66 * POINT, width: RIGHT.width - 66 * POINT, align: Align::Left };
        let line = self.setter.line(label, LABEL);
        self.sheet.make_room(LEADING);
        let label = self.sheet.text(label_column, line, LEADING, Part::Content);
        let lines = self.setter.lines(text, TEXT, column.width, None);
        let mut node = self.sheet.lines(column, lines, LEADING, Role::Paragraph);
        node.children.insert(0, label);
        self.nodes.push(node);
    }

    fn party(&mut self, party: &Party, column: Column) {
        let texts = || std::iter::once(party.name.as_str()).chain(party.address.iter().map(String::as_str));
        let language = party.language.as_deref().filter(|own| is_language_tag(own));
        let language = language.or_else(|| scripts::language_of(texts()));
        self.paragraph(&party.name, STRONG, column, LEADING, language);
        for line in &party.address {
            self.paragraph(line, TEXT, column, LEADING, language);
        }
        if let Some(tax_id) = &party.tax_id {
            self.paragraph(&format!("Tax ID {tax_id}"), TEXT, column, LEADING, None);
        }
        if let Some(registration) = &party.registration {
            self.paragraph(registration, TEXT, column, LEADING, None);
        }
    }

    fn parties(&mut self, document: &Document) {
        self.beside(
            |own| {
                own.paragraph(print::buyer_label(document.kind), LABEL, LEFT, LEADING, None);
                own.party(&document.buyer, LEFT);
            },
            |own| {
                for (label, text) in print::facts(document) {
                    own.fact(label, &text);
                }
            },
        );
        self.sheet.y += GAP;
    }

    fn due(&mut self, document: &Document) {
        self.paragraph(&print::due(document, ""), DUE, WHOLE, 18 * POINT, None);
        self.sheet.y += GAP / 2;
    }

    fn table(&mut self, document: &Document) {
        let mut table = Node::new(Role::Table("What was sold, with quantities, prices and amounts"));
        let mut head = Node::new(Role::Head);
        let mut body = Node::new(Role::Body);
        // Not a head alone at the bottom of a page.
        self.sheet.make_room(4 * LEADING);
        head.push(self.table_head(document, Part::Content));
        for line in &document.lines {
            let row = self.line(line);
            body.push(self.row(row, PADDING, document));
            for tier in &line.tiers {
                let row = self.tier(tier);
                body.push(self.row(row, 0, document));
            }
            self.sheet.y += PADDING;
            self.sheet.rule(MARGIN, WIDTH, HAIR, Ink::Pale);
        }
        table.push(head);
        table.push(body);
        self.nodes.push(table);
    }

    fn table_head(&mut self, document: &Document, part: Part) -> Node {
        let amount = format!("Amount ({})", document.currency);
        let mut row = Node::new(Role::Row);
        for (text, column) in ["Description", "Quantity", "Unit price", &amount].iter().zip(COLUMNS) {
            let line = self.setter.line(text, HEAD);
            let item = self.sheet.text(column, line, LEADING, part);
            let mut cell = Node::new(Role::ColumnHeader);
            cell.children.push(item);
            row.push(cell);
        }
        self.sheet.y += LEADING + PADDING / 2;
        self.sheet.rule(MARGIN, WIDTH, POINT, Ink::Dark);
        self.sheet.y += POINT;
        row
    }

    fn cell(&mut self, column: Column, texts: &[(&str, Style)], role: Role) -> Cell {
        let set = |(text, style): &(&str, Style)| self.setter.lines(text, *style, column.width, None);
        Cell { column, role, lines: texts.iter().flat_map(set).collect() }
    }

    fn line(&mut self, line: &Line) -> Vec<Cell> {
        let period = line.period.map(print::period).unwrap_or_default();
        let quantity = line.quantity.map(print::quantity).unwrap_or_default();
        let quantity = format!("{quantity} {}", line.unit.as_deref().unwrap_or_default());
        let price = match &line.price {
            Some(Price::Unit(unit)) => print::quantity(*unit),
            Some(Price::Model(model)) => model.clone(),
            None => String::new(),
        };
        let is_rounded = line.amount.quantity() != line.exact;
        let exact = if is_rounded { format!("exactly {}", print::quantity(line.exact)) } else { String::new() };
        let [first, second, third, fourth] = COLUMNS;
        vec![
            self.cell(first, &[(&line.description, TEXT), (&period, SMALL)], Role::RowHeader),
            self.cell(second, &[(quantity.trim(), TEXT)], Role::Cell),
            self.cell(third, &[(&price, TEXT)], Role::Cell),
            self.cell(fourth, &[(&print::amount(line.amount), TEXT), (&exact, SMALL)], Role::Cell),
        ]
    }

    fn tier(&mut self, tier: &TierRow) -> Vec<Cell> {
        let [_, second, third, fourth] = COLUMNS;
        vec![
            self.cell(TIER, &[(&print::tier(tier), SMALL)], Role::RowHeader),
            self.cell(second, &[(&print::tier_quantity(tier), SMALL)], Role::Cell),
            self.cell(third, &[(&print::tier_price(tier), SMALL)], Role::Cell),
            self.cell(fourth, &[(&print::quantity(tier.amount), SMALL)], Role::Cell),
        ]
    }

    /// Puts a row; one that no page holds goes on on the next.
    fn row(&mut self, cells: Vec<Cell>, above: i32, document: &Document) -> Node {
        let count = cells.iter().map(|cell| cell.lines.len()).max().unwrap_or(0);
        let height = i32::try_from(count).unwrap_or(i32::MAX).saturating_mul(LEADING).saturating_add(2 * PADDING);
        if !self.sheet.fits(height) && Sheet::fits_a_page(height.saturating_add(2 * LEADING)) {
            self.begin_page_of_table(document);
        }
        self.sheet.y += above;
        let mut nodes: Vec<Node> = cells.iter().map(|cell| Node::new(cell.role.clone())).collect();
        let mut rest: Vec<(Column, std::vec::IntoIter<TextLine>)> =
            cells.into_iter().map(|cell| (cell.column, cell.lines.into_iter())).collect();
        for _ in 0..count {
            if !self.sheet.fits(LEADING) {
                self.begin_page_of_table(document);
            }
            for ((column, lines), node) in rest.iter_mut().zip(&mut nodes) {
                if let Some(line) = lines.next() {
                    node.children.push(self.sheet.text(*column, line, LEADING, Part::Content));
                }
            }
            self.sheet.y += LEADING;
        }
        Node { role: Role::Row, language: None, children: nodes.into_iter().map(Child::Node).collect() }
    }

    /// Its head again is no part of what is read.
    fn begin_page_of_table(&mut self, document: &Document) {
        self.sheet.begin_page();
        drop(self.table_head(document, Part::Header));
    }

    fn sums(&mut self, document: &Document) {
        let sums = print::sums(document);
        self.sheet.y += PADDING * 2;
        let height = i32::try_from(sums.len()).unwrap_or(i32::MAX).saturating_mul(LEADING + PADDING);
        if Sheet::fits_a_page(height) {
            self.sheet.make_room(height);
        }
        let mut table = Node::new(Role::Table("Sums"));
        let mut body = Node::new(Role::Body);
        for (label, amount, is_sum) in sums {
            let style = if is_sum { STRONG } else { TEXT };
            let amount = self.cell(SUM_AMOUNT, &[(&amount, style)], Role::Cell);
            let label = self.cell(SUM_LABEL, &[(&label, style)], Role::RowHeader);
            if is_sum {
                self.sheet.rule(SUM_LABEL.x, MARGIN + WIDTH - SUM_LABEL.x, HAIR, Ink::Dark);
            }
            body.push(self.sum(label, amount));
        }
        table.push(body);
        self.nodes.push(table);
    }

    fn sum(&mut self, label: Cell, amount: Cell) -> Node {
        let mut row = Node::new(Role::Row);
        let height = i32::try_from(label.lines.len().max(1)).unwrap_or(1).saturating_mul(LEADING);
        if Sheet::fits_a_page(height) {
            self.sheet.make_room(height + PADDING);
        }
        self.sheet.y += PADDING / 2;
        let top = self.sheet.y;
        let mut amounts = Node::new(amount.role);
        for line in amount.lines {
            amounts.children.push(self.sheet.text(amount.column, line, LEADING, Part::Content));
            self.sheet.y += LEADING;
        }
        let bottom = std::mem::replace(&mut self.sheet.y, top);
        row.push(self.sheet.lines(label.column, label.lines, LEADING, label.role));
        row.push(amounts);
        self.sheet.y = self.sheet.y.max(bottom) + PADDING / 2;
        row
    }

    fn notes(&mut self, document: &Document) {
        self.sheet.y += GAP;
        let how_to_pay = print::how_to_pay(document);
        if !how_to_pay.is_empty() {
            self.sheet.make_room(2 * LEADING);
            self.paragraph("How to pay", LABEL, WHOLE, LEADING, None);
            for line in how_to_pay {
                self.paragraph(line, TEXT, WHOLE, LEADING, None);
            }
            self.sheet.y += GAP / 2;
        }
        for note in &document.notes {
            self.paragraph(note, TEXT, WHOLE, LEADING, None);
            self.sheet.y += PADDING;
        }
    }
}
