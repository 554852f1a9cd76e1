//! Who calls: the administrator, and one customer.

use super::server::Server;
use crate::support::{
    actors::{PASSWORD, email_of, registration},
    app::{ADMIN_EMAIL, ADMIN_PASSWORD},
};

/// The administrator's token.
pub fn admin(server: &Server) -> String {
    server.token(ADMIN_EMAIL, ADMIN_PASSWORD)
}

/// A premium tenant and its owner's token.
pub fn customer(server: &Server) -> String {
    let made = server.call("POST", "/admin/v1/registrations", &admin(server), &registration("Acme", "premium"));
    assert_eq!(made.status, 201, "{}", made.body);
    owner(server)
}

/// A new token of the owner of the tenant made by [`customer`].
pub fn owner(server: &Server) -> String {
    server.token(&email_of("Acme"), PASSWORD)
}
