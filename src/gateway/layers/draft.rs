//! What is needed to settle a request; everything that could be refused was taken before.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{Ticket, meter::Shared, metered_body::Ingress};
use crate::{
    gateway::{
        reading::Reading,
        units::{MeterRule, ONE, Unit, Unread},
        upstream::Tunnel,
        usage::Reported,
    },
    metering::{Amounts, Record, Reservation},
};

/// A request that is not settled yet.
pub(super) struct Draft {
    pub(super) shared: Arc<Shared>,
    pub(super) ticket: Arc<Ticket>,
    pub(super) reservation: Reservation,
    /// Absent when the request has no body.
    pub(super) ingress: Option<Arc<Ingress>>,
    pub(super) egress: u64,
    /// What goes on counting after a change of protocol.
    pub(super) tunnel: Option<Tunnel>,
    pub(super) reported: Reported,
    pub(super) reading: Option<Box<Reading>>,
    pub(super) started: Instant,
    worked_micros: u64,
}

/// The record was not written: the disk failed.
#[derive(Debug, thiserror::Error)]
#[error("the usage could not be recorded")]
pub(super) struct NotRecorded;

impl Draft {
    pub(super) fn new(shared: Arc<Shared>, ticket: Arc<Ticket>, reservation: Reservation) -> Self {
        Self {
            shared,
            ticket,
            reservation,
            ingress: None,
            egress: 0,
            tunnel: None,
            reported: Reported::default(),
            reading: None,
            started: stopwatch(),
            worked_micros: 0,
        }
    }

    /// The upstream's answer began.
    pub(super) fn worked(&mut self, until: Instant) {
        let worked = until.saturating_duration_since(self.started);
        self.worked_micros = u64::try_from(worked.as_micros()).unwrap_or(u64::MAX);
    }

    /// The next bytes of the answer.
    pub(super) fn data(&mut self, bytes: &[u8]) {
        self.egress = self.egress.saturating_add(bytes.len() as u64);
        if let Some(reading) = &mut self.reading {
            reading.data(bytes);
        }
    }

    /// The answer came to its end.
    pub(super) fn finish(&mut self) {
        if let Some(reading) = &mut self.reading {
            reading.finish();
        }
    }

    /// Writes the record; its sequence number. Must not wait: it also runs on drop.
    pub(super) fn settle(self) -> Result<u64, NotRecorded> {
        let amounts = self.amounts();
        let Self { shared, ticket, reservation, .. } = self;
        let record = Record { tenant: ticket.tenant, at: shared.clock.now(), route: shared.meters.route, amounts };
        match shared.metering.record(reservation, &record) {
            Ok(seq) => {
                ticket.settle(&record, seq);
                Ok(seq)
            }
            Err(error) => {
                tracing::error!(error = crate::kernel::fault::chain(&error), "a settled request could not be recorded");
                ticket.refuse();
                Err(NotRecorded)
            }
        }
    }

    fn amounts(&self) -> Amounts {
        let mut amounts = Amounts::default();
        for (place, rule) in self.shared.meters.rules.iter().enumerate() {
            match self.quantity(place, rule) {
                // What is nothing is not in the record.
                Ok(thousandths) => drop(amounts.push(rule.meter, thousandths)),
                Err(why) => self.shared.metering.note_unread(self.shared.meters.route, rule.meter, &why),
            }
        }
        amounts
    }

    fn quantity(&self, place: usize, rule: &MeterRule) -> Result<i64, Unread> {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX).saturating_mul(ONE);
        // A millisecond has a thousand microseconds: elapsed microseconds are thousandths of the unit.
        let worked = i64::try_from(self.worked_micros).unwrap_or(i64::MAX);
        let reported = || self.reported.thousandths.get(usize::from(rule.meter)).copied().flatten();
        Ok(match &rule.unit {
            Unit::Count => ONE,
            Unit::RequestBytes => {
                let of_body = self.ingress.as_ref().map_or(0, |ingress| ingress.bytes.load(Ordering::Relaxed));
                whole(of_body.saturating_add(self.tunnel.as_ref().map_or(0, Tunnel::ingress)))
            }
            Unit::ResponseBytes => whole(self.egress.saturating_add(self.tunnel.as_ref().map_or(0, Tunnel::egress))),
            Unit::Milliseconds => worked,
            Unit::Reported => reported().unwrap_or(0),
            Unit::ReportedOrMilliseconds => reported().unwrap_or(worked),
            Unit::Header(_) | Unit::Json(_) => {
                return self.reading.as_ref().map_or(Err(Unread::Missing), |reading| reading.value(place));
            }
        })
    }
}

/// Starts measuring how long the upstream works: real time, whatever the clock says.
#[expect(clippy::disallowed_methods, reason = "a stopwatch, not a clock")]
pub(super) fn stopwatch() -> Instant {
    Instant::now()
}
