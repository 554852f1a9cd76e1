//! `[offboarding]`: for how long the export of a tenant that left is kept.

use super::read::Reader;

/// Days.
const EXPORT_RETENTION_DAYS: i64 = 30;

/// `[offboarding]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffboardingSettings {
    /// An export is kept for so many days; 0 for none at all.
    pub export_days: i64,
}

impl OffboardingSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let export_days = reader.number("offboarding.export_retention_days", EXPORT_RETENTION_DAYS, 0, 3_650)?;
        Some(Self { export_days })
    }
}
