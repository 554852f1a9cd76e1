//! What there is of a tenant's infrastructure, for its export: never what opens it.

use url::Url;

use super::{error::Error, model::KeptPlace, service::Provisioning};
use crate::{
    kernel::{Isolation, TenantId, fault::chain},
    store::Scope,
};

/// A tenant's place, as its export has it.
#[derive(Debug, Clone)]
pub struct Described {
    /// What kind of place.
    pub isolation: Isolation,
    /// Whose doing it is.
    pub driver: String,
    /// Which of the driver's pools it is in; empty for a place of its own.
    pub pool: String,
    /// Where it is, in the driver's terms.
    pub location: String,
    /// How many rows of the tenant's are there, where the driver knows of any and answers.
    pub rows: Option<u64>,
}

impl Provisioning {
    /// A tenant's places. A driver that does not answer keeps nobody from an export: then it is not said how many rows there are.
    pub async fn describe(&self, scope: Scope, tenant: TenantId) -> Result<Vec<Described>, Error> {
        let places = self.store.read(scope).await?.places(tenant).await?;
        let mut described = Vec::new();
        for kept in places {
            let rows = match self.count_rows(&kept).await {
                Ok(rows) => Some(rows),
                Err(error) => {
                    tracing::warn!(tenant_id = %tenant, error = chain(&error), "a tenant's rows could not be counted");
                    None
                }
            };
            let KeptPlace { place, driver, .. } = kept;
            let location = without_userinfo(place.location);
            described.push(Described { isolation: place.isolation, driver, pool: place.pool, location, rows });
        }
        Ok(described)
    }

    async fn count_rows(&self, kept: &KeptPlace) -> Result<u64, Error> {
        Ok(self.drivers.named(&kept.driver, kept.place.tenant_id)?.tally(&kept.place).await?.rows)
    }
}

/// A driver may call a place by an address with what opens it.
fn without_userinfo(location: String) -> String {
    match Url::parse(&location) {
        Ok(mut address) if address.password().is_some() || !address.username().is_empty() => {
            match (address.set_password(None), address.set_username("")) {
                (Ok(()), Ok(())) => address.to_string(),
                _ => String::new(),
            }
        }
        _ => location,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opens_a_place_is_not_in_its_address() {
        for (location, said) in [
            ("postgres://acme:secret@db.example/acme", "postgres://db.example/acme"),
            ("postgres://acme@db.example/acme", "postgres://db.example/acme"),
            ("silo/1.db", "silo/1.db"),
            ("https://acme.example/", "https://acme.example/"),
        ] {
            assert_eq!(without_userinfo(location.to_owned()), said);
        }
    }
}
