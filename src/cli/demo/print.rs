//! What the demo shows: readable, and coloured on a terminal.

use std::io::{IsTerminal as _, Write as _};

use owo_colors::OwoColorize as _;

use super::{ADMIN_PASSWORD, PASSWORD, client::Answer};

pub(super) struct Printer {
    colour: bool,
    step: usize,
}

impl Printer {
    pub(super) fn new() -> Self {
        Self { colour: std::io::stdout().is_terminal(), step: 0 }
    }

    /// A new step.
    pub(super) fn step(&mut self, title: &str) {
        self.step += 1;
        let title = format!("{}. {title}", self.step);
        line("");
        if self.colour { line(&title.bold().to_string()) } else { line(&title) }
    }

    /// What was called and what came back.
    pub(super) fn call(&self, answer: &Answer) {
        let Answer { call, status, .. } = answer;
        let status = match (self.colour, *status < 400) {
            (false, _) => status.to_string(),
            (true, true) => status.green().to_string(),
            (true, false) => status.yellow().to_string(),
        };
        let call = if self.colour { call.cyan().to_string() } else { call.clone() };
        line(&format!("   {call}  →  {status}"));
    }

    /// A fact that came back.
    pub(super) fn fact(&self, name: &str, value: &str) {
        let name = format!("{name:<16}");
        let name = if self.colour { name.dimmed().to_string() } else { name };
        line(&format!("      {name} {value}"));
    }

    pub(super) fn success(&self, text: &str) {
        line("");
        if self.colour { line(&text.green().bold().to_string()) } else { line(text) }
    }

    pub(super) fn failure(&self, text: &str) {
        line("");
        if self.colour { line(&text.red().bold().to_string()) } else { line(text) }
    }

    pub(super) fn still_serving(&self, base: &str) {
        line("");
        line(&format!("Still serving at {base} (Ctrl-C ends it and removes its data). Try:"));
        self.fact("reference", &format!("{base}/docs"));
        self.fact("administrator", &format!("admin@localhost  {ADMIN_PASSWORD}"));
        self.fact("customer_2", &format!("grace@customer-2.example  {PASSWORD}"));
        self.fact("customer_3", &format!("alan@customer-3.example  {PASSWORD}"));
        line("");
        line(&format!(
            "   curl -s {base}/v1/login -H 'content-type: application/json' \\\n        -d '{{\"email\":\"grace@customer-2.example\",\"password\":\"{PASSWORD}\"}}'"
        ));
    }
}

/// A reader that went away is no reason to stop.
fn line(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}
