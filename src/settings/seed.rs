//! `[[seed.tenants]]` and `[[seed.clients]]`: fixtures for tests, applied when a laboratory starts.

use toml::{Table, Value};
use uuid::Uuid;

use super::read::Reader;
use crate::{
    billing::{AddressBody, BillingAddress},
    identity::{ClientKind, ClientRequest, NewClient},
    kernel::{ClientId, CustomerName, Email, ExternalId, Faults, Secret, TenantId, TierName},
    users::Role,
};

/// The tier of a tenant that names none.
const TIER: &str = "free";
/// The billing address of a tenant that names none.
const ADDRESS: &str = "1 Laboratory Road";
/// What `/admin/v1/clients` takes and a seed passes on, with the names of RFC 7591.
const CLIENT_KEYS: [&str; 7] = [
    "client_name",
    "scope",
    "grant_types",
    "redirect_uris",
    "response_types",
    "token_endpoint_auth_method",
    "id_token_signed_response_alg",
];

/// All fixtures.
#[derive(Debug, Clone, Default)]
pub struct SeedSettings {
    /// The tenants with their people.
    pub tenants: Vec<SeedTenant>,
    /// The clients of tenants, and those that people of every tenant may use.
    pub clients: Vec<SeedClient>,
}

/// `[[seed.tenants]]`
#[derive(Debug, Clone)]
pub struct SeedTenant {
    /// Where it stands in the settings.
    pub path: String,
    /// The customer, which is how it is found again.
    pub customer_name: CustomerName,
    /// The tier it begins with.
    pub tier: TierName,
    /// What a foreign issuer calls it.
    pub external_id: Option<ExternalId>,
    /// Where its bills go.
    pub billing_address: BillingAddress,
    /// Its people; the first is its owner.
    pub users: Vec<SeedUser>,
}

/// `[[seed.tenants.users]]`
#[derive(Debug, Clone)]
pub struct SeedUser {
    /// Where it stands in the settings.
    pub path: String,
    /// How they sign in.
    pub email: Email,
    /// Their first password, as easy as it may be.
    pub password: Option<Secret>,
    /// As what.
    pub role: Role,
}

/// `[[seed.clients]]` and `[[seed.tenants.clients]]`
#[derive(Debug, Clone)]
pub struct SeedClient {
    /// Where it stands in the settings.
    pub path: String,
    /// Its `client_id`.
    pub id: ClientId,
    /// Its secret; none for a public client.
    pub secret: Option<Secret>,
    /// Whose, by customer name.
    pub tenant: Option<CustomerName>,
    /// The rest. Its tenant's id is not known before the tenant is there.
    pub client: NewClient,
}

impl SeedSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let mut seeds = Self::default();
        let mut fine = true;
        for (path, mut item) in reader.tables("seed.tenants") {
            let tenant = seeds.read_tenant(&path, &mut item);
            fine &= tenant.is_some();
            seeds.tenants.extend(tenant);
            reader.finish_item(&path, item);
        }
        for (path, mut item) in reader.tables("seed.clients") {
            let tenant = optional::<CustomerName>(&mut item, ".tenant");
            let client = tenant.and_then(|tenant| read_client(&path, &mut item, tenant));
            fine &= client.is_some();
            seeds.clients.extend(client);
            reader.finish_item(&path, item);
        }
        fine &= seeds.agrees_with_itself(reader);
        fine.then_some(seeds)
    }

    fn read_tenant(&mut self, path: &str, item: &mut Reader) -> Option<SeedTenant> {
        let customer_name = required::<CustomerName>(item, ".customer_name");
        let tier = item.parsed::<TierName>(".tier", TIER);
        let external_id = optional::<ExternalId>(item, ".external_id");
        let billing_address = item.string(".billing_address", ADDRESS).and_then(|text| {
            let mut faults = Faults::new();
            let address = AddressBody::Text(text).parse(".billing_address", &mut faults);
            faults.finish(address).map_err(|faults| all(item, &faults)).ok()
        });
        let users = read_users(path, item);
        let mut fine = users.is_some();
        for (prefix, mut client) in item.tables(".clients") {
            let read = read_client(&format!("{path}{prefix}"), &mut client, customer_name.clone());
            fine &= read.is_some();
            self.clients.extend(read);
            item.finish_item(&prefix, client);
        }
        let tenant = SeedTenant {
            path: path.to_owned(),
            customer_name: customer_name?,
            tier: tier?,
            external_id: external_id?,
            billing_address: billing_address?,
            users: users?,
        };
        fine.then_some(tenant)
    }

    /// No name, id or address stands for two things.
    fn agrees_with_itself(&self, reader: &mut Reader) -> bool {
        let mut fine = true;
        let mut fault = |path: &str, detail: String| {
            reader.fault(path, &detail);
            fine = false;
        };
        for (index, tenant) in self.tenants.iter().enumerate() {
            let before = &self.tenants[..index];
            if let Some(other) = before.iter().find(|other| other.customer_name == tenant.customer_name) {
                fault(&format!("{}.customer_name", tenant.path), format!("is that of {}", other.path));
            }
            let same = |other: &&SeedTenant| tenant.external_id.is_some() && other.external_id == tenant.external_id;
            if let Some(other) = before.iter().find(same) {
                fault(&format!("{}.external_id", tenant.path), format!("is that of {}", other.path));
            }
        }
        let users: Vec<&SeedUser> = self.tenants.iter().flat_map(|tenant| &tenant.users).collect();
        let text = |user: &SeedUser| user.password.as_ref().map(|password| password.expose().to_owned());
        for (index, user) in users.iter().enumerate() {
            let known = users[..index].iter().find(|other| other.email.key() == user.email.key());
            if let Some(other) = known.filter(|other| text(other) != text(user)) {
                fault(&format!("{}.password", user.path), format!("is another than at {}", other.path));
            }
        }
        for (index, client) in self.clients.iter().enumerate() {
            if let Some(other) = self.clients[..index].iter().find(|other| other.id == client.id) {
                fault(&format!("{}.client_id", client.path), format!("is that of {}", other.path));
            }
        }
        fine
    }
}

fn read_users(path: &str, item: &mut Reader) -> Option<Vec<SeedUser>> {
    let mut users: Vec<SeedUser> = Vec::new();
    let mut fine = true;
    for (prefix, mut user) in item.tables(".users") {
        let owner = users.is_empty() && fine;
        let email = required::<Email>(&mut user, ".email");
        let password = user.optional_string(".password").map(Secret::new);
        let role = user.parsed::<Role>(".role", if owner { "owner" } else { "member" });
        if owner && role.is_some_and(|role| role != Role::Owner) {
            user.fault(".role", "must be owner: the first user of a tenant is");
        }
        let path = format!("{path}{prefix}");
        let user_read = email.zip(role).map(|(email, role)| SeedUser { path, email, password, role });
        if let Some(read) = &user_read
            && users.iter().any(|other| other.email.key() == read.email.key())
        {
            user.fault(".email", "is in this tenant twice");
        }
        fine &= user_read.is_some();
        users.extend(user_read);
        item.finish_item(&prefix, user);
    }
    if users.is_empty() && fine {
        item.fault(".users", "must not be empty: a tenant has an owner");
        return None;
    }
    fine.then_some(users)
}

fn read_client(path: &str, item: &mut Reader, tenant: Option<CustomerName>) -> Option<SeedClient> {
    let id = required::<ClientId>(item, ".client_id");
    let secret = item.optional_string(".client_secret").map(Secret::new);
    let mut table = Table::new();
    for key in CLIENT_KEYS {
        if let Some(value) = item.take(&format!(".{key}")) {
            table.insert(key.to_owned(), value);
        }
    }
    let request = Value::Table(table).try_into::<ClientRequest>();
    let request = request.map_err(|error| item.fault("", error.to_string().trim())).ok()?;
    // Any tenant's id will do to check the rest; the right one is put in when it is known.
    let some_tenant = tenant.as_ref().map(|_| TenantId::from_uuid(Uuid::nil()));
    let client = request.check(some_tenant).map_err(|faults| all(item, &faults)).ok()?;
    match (client.kind, &secret) {
        (ClientKind::Confidential, None) => {
            item.fault(".client_secret", "is required, unless token_endpoint_auth_method is none");
        }
        (ClientKind::Public, Some(_)) => item.fault(".client_secret", "is nothing for a public client"),
        _ => {}
    }
    Some(SeedClient { path: path.to_owned(), id: id?, secret, tenant, client })
}

fn all(item: &mut Reader, faults: &[crate::kernel::Fault]) {
    for fault in faults {
        item.fault(&format!(".{}", fault.field.trim_start_matches('.')), &fault.detail);
    }
}

fn required<T: std::str::FromStr<Err: std::fmt::Display>>(item: &mut Reader, path: &str) -> Option<T> {
    let found = optional(item, path)?;
    if found.is_none() {
        item.fault(path, "is required");
    }
    found
}

/// The inner `None` where nothing is said, the outer one where what is said is wrong.
#[expect(clippy::option_option, reason = "absent and wrong are two things")]
fn optional<T: std::str::FromStr<Err: std::fmt::Display>>(item: &mut Reader, path: &str) -> Option<Option<T>> {
    match item.take(path) {
        None => Some(None),
        Some(Value::String(text)) => match text.parse() {
            Ok(value) => Some(Some(value)),
            Err(error) => {
                item.fault(path, &format!("{error}"));
                None
            }
        },
        Some(other) => {
            item.fault(path, &format!("must be a text, not {}", other.type_str()));
            None
        }
    }
}
