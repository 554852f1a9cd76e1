//! What the audit says of an act: whatever was noted since one looked last.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{actors::Actor, app::TestApp};

/// The audit, as far as it was read.
pub struct Audit<'a> {
    admin: Actor<'a>,
    seen: BTreeSet<String>,
}

impl<'a> Audit<'a> {
    /// Of an app; what it says already is passed over.
    pub async fn of(app: &'a TestApp) -> Self {
        let mut audit = Self { admin: app.admin().await, seen: BTreeSet::new() };
        audit.entries().await;
        audit
    }

    /// What was noted since the last look.
    pub async fn entries(&mut self) -> Vec<Value> {
        let page = self.admin.get("/admin/v1/audit?limit=500").await.expect(200).body;
        assert!(page["next_cursor"].is_null(), "more than one page");
        let entries = page["items"].as_array().unwrap().iter();
        entries.filter(|entry| self.seen.insert(entry["audit_id"].to_string())).cloned().collect()
    }

    /// The actions that were noted since the last look, by their names: of one instant they come in no order.
    pub async fn actions(&mut self) -> Vec<String> {
        let mut actions: Vec<_> =
            self.entries().await.iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect();
        actions.sort_unstable();
        actions
    }
}
