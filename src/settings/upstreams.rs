//! `[[gateway.upstreams]]`: the services that routes lead to.

use std::sync::Arc;

use axum::http::Uri;

use super::read::Reader;
use crate::gateway::upstream::UpstreamConfig;

/// `[[gateway.upstreams]]`, in their order.
pub(super) fn read_upstreams(reader: &mut Reader) -> Vec<Arc<UpstreamConfig>> {
    let mut upstreams: Vec<Arc<UpstreamConfig>> = Vec::new();
    for (prefix, mut item) in reader.tables("gateway.upstreams") {
        let name = item.string(".name", "").unwrap_or_default();
        if name.is_empty() {
            item.fault(".name", "is required");
        } else if upstreams.iter().any(|other| other.name == name) {
            item.fault(".name", "is used by another upstream");
        }
        let targets = item.strings(".targets", &[]).unwrap_or_default();
        if targets.is_empty() {
            item.fault(".targets", "must name at least one address");
        }
        let targets = targets.iter().filter_map(|text| target(&mut item, text)).collect();
        reader.finish_item(&prefix, item);
        upstreams.push(Arc::new(UpstreamConfig { name, targets }));
    }
    upstreams
}

fn target(item: &mut Reader, text: &str) -> Option<Uri> {
    let uri: Option<Uri> = text.parse().ok();
    let fine = uri.filter(|uri| uri.scheme_str() == Some("http") && uri.authority().is_some() && uri.query().is_none());
    if fine.is_none() {
        item.fault(".targets", &format!("{text:?} is not an address such as http://127.0.0.1:9001"));
    }
    fine
}
