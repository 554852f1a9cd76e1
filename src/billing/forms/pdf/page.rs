//! Pages before they are a file: what stands where, in twips from the top left, and what it means to who cannot see it.

use super::text::{Ink, POINT, Setter, TextLine};

/// A4.
pub(super) const PAGE: (i32, i32) = (11_906, 16_838);
/// Around everything.
pub(super) const MARGIN: i32 = 57 * POINT;
/// Between the margins.
pub(super) const WIDTH: i32 = PAGE.0 - 2 * MARGIN;
/// What is not the footer's.
pub(super) const BOTTOM: i32 = PAGE.1 - MARGIN - 18 * POINT;
/// Where a page after the first begins, below its own small heading.
const TOP_AFTER_FIRST: i32 = MARGIN + 26 * POINT;

/// What is on a page.
#[derive(Default)]
pub(super) struct Page {
    pub(super) items: Vec<Item>,
}

/// A thing on a page.
pub(super) enum Item {
    /// A line of text: its left end and its base line.
    Text { x: i32, y: i32, line: TextLine, part: Part },
    /// A horizontal rule.
    Rule { x: i32, y: i32, width: i32, height: i32, ink: Ink },
}

/// Whether something belongs to what is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// It is read.
    Content,
    /// Repeated at the top of pages.
    Header,
    /// Repeated at the bottom of pages.
    Footer,
}

/// What something means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    Heading(String),
    Paragraph,
    /// With a summary.
    Table(&'static str),
    Head,
    Body,
    Row,
    ColumnHeader,
    RowHeader,
    Cell,
}

/// A part of the document's structure.
pub(super) struct Node {
    pub(super) role: Role,
    pub(super) language: Option<String>,
    pub(super) children: Vec<Child>,
}

/// What a part consists of.
pub(super) enum Child {
    Node(Node),
    /// A text item, by page and place.
    Item(usize, usize),
}

impl Node {
    pub(super) const fn new(role: Role) -> Self {
        Self { role, language: None, children: Vec::new() }
    }

    pub(super) fn push(&mut self, node: Self) {
        self.children.push(Child::Node(node));
    }
}

/// How a cell's lines stand in its width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A column's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) x: i32,
    pub(super) width: i32,
    pub(super) align: Align,
}

/// A cell of a row.
pub(super) struct Cell {
    pub(super) column: Column,
    pub(super) role: Role,
    pub(super) lines: Vec<TextLine>,
}

/// Pages, filled from the top down.
pub(super) struct Sheet {
    pub(super) pages: Vec<Page>,
    pub(super) y: i32,
}

impl Sheet {
    pub(super) fn new() -> Self {
        Self { pages: vec![Page::default()], y: MARGIN }
    }

    fn page(&mut self) -> &mut Page {
        let last = self.pages.len() - 1;
        &mut self.pages[last]
    }

    /// Puts a line below the last one, `leading` high.
    pub(super) fn text(&mut self, column: Column, line: TextLine, leading: i32, part: Part) -> Child {
        let x = match column.align {
            Align::Left => column.x,
            Align::Right => column.x + column.width - line.width,
        };
        // The letters' middle in the line's.
        let y = self.y + (leading - line.style.size) / 2 + line.style.size * 4 / 5;
        let page = self.pages.len() - 1;
        let items = &mut self.page().items;
        items.push(Item::Text { x, y, line, part });
        Child::Item(page, items.len() - 1)
    }

    /// A rule over a width at the place that was reached.
    pub(super) fn rule(&mut self, x: i32, width: i32, height: i32, ink: Ink) {
        let y = self.y;
        self.page().items.push(Item::Rule { x, y, width, height, ink });
    }

    /// Lines one below the other; goes on on the next page when this one is full.
    pub(super) fn lines(&mut self, column: Column, lines: Vec<TextLine>, leading: i32, role: Role) -> Node {
        let mut node = Node::new(role);
        for line in lines {
            self.make_room(leading);
            node.children.push(self.text(column, line, leading, Part::Content));
            self.y += leading;
        }
        node
    }

    /// Whether so much more fits here.
    pub(super) const fn fits(&self, height: i32) -> bool {
        self.y + height <= BOTTOM
    }

    /// Whether so much fits a page at all.
    pub(super) const fn fits_a_page(height: i32) -> bool {
        TOP_AFTER_FIRST + height <= BOTTOM
    }

    /// Begins a page if so much does not fit here; says whether it did.
    pub(super) fn make_room(&mut self, height: i32) -> bool {
        let begins = !self.fits(height);
        if begins {
            self.begin_page();
        }
        begins
    }

    pub(super) fn begin_page(&mut self) {
        self.pages.push(Page::default());
        self.y = TOP_AFTER_FIRST;
    }

    /// Puts heading and number on every page, now that it is known how many there are.
    pub(super) fn number_pages(&mut self, setter: &mut Setter<'_>, heading: &str, style: super::text::Style) {
        let count = self.pages.len();
        for index in 0..count {
            let number = setter.line(&format!("Page {} of {count}", index + 1), style);
            let name = setter.cut(heading, style, WIDTH * 3 / 4);
            let base = BOTTOM + 18 * POINT;
            let items = &mut self.pages[index].items;
            let x = MARGIN + WIDTH - number.width;
            items.push(Item::Text { x, y: base, line: number, part: Part::Footer });
            items.push(Item::Text { x: MARGIN, y: base, line: name.clone(), part: Part::Footer });
            if index > 0 {
                let y = MARGIN + 6 * POINT;
                items.push(Item::Text { x: MARGIN, y, line: name, part: Part::Header });
            }
        }
    }
}
