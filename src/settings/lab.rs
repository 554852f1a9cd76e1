//! `[lab]`: whether this is a laboratory, and what is refused because it is one, or because it is none.

use std::net::IpAddr;

use super::{IdentitySettings, SeedSettings, ServerSettings, read::Reader};

/// What only a laboratory has.
const TESTS_ONLY: &str = "is for tests only: it needs lab mode (--lab)";

/// `[lab]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabSettings {
    /// `--lab`
    pub enabled: bool,
    /// Whether the lab may listen where others can reach it.
    pub force: bool,
}

impl LabSettings {
    /// Reads the section and holds the others against it.
    pub(super) fn read(
        reader: &mut Reader,
        server: Option<&ServerSettings>,
        identity: Option<&IdentitySettings>,
        seed: Option<&SeedSettings>,
    ) -> Option<Self> {
        let enabled = reader.switch("lab.enabled", false);
        let force = reader.switch("lab.force", false);
        let settings = Self { enabled: enabled?, force: force? };
        if settings.enabled {
            if let Some(server) = server {
                settings.check_addresses(reader, server);
            }
            return Some(settings);
        }
        let tests_only = [
            ("identity.allow_password_grant", identity.is_some_and(|identity| identity.allow_password_grant)),
            ("identity.login_throttle", identity.is_some_and(|identity| !identity.login_throttle)),
            ("seed.tenants", seed.is_some_and(|seed| !seed.tenants.is_empty())),
            ("seed.clients", seed.is_some_and(|seed| !seed.clients.is_empty())),
        ];
        for (path, _) in tests_only.iter().filter(|(_, used)| *used) {
            reader.fault(path, TESTS_ONLY);
        }
        Some(settings)
    }

    fn check_addresses(self, reader: &mut Reader, server: &ServerSettings) {
        let addresses = [("server.listen", Some(server.listen)), ("server.admin_listen", server.admin_listen)];
        for (path, address) in addresses {
            if address.is_some_and(|address| !address.ip().is_loopback()) && !self.force {
                reader.fault(path, "must be a loopback address in lab mode, unless lab.force is true");
            }
        }
        let own = format!("http://{}", server.listen);
        // Without one it is the address, which has been judged unless it was forced.
        let issuer = server.issuer.as_deref().or(self.force.then_some(own.as_str()));
        if issuer.is_some_and(|issuer| is_public(issuer, self.force)) {
            reader.fault("server.issuer", "is a public name, and lab mode is refused with one");
        }
    }
}

/// Whether an issuer's name means something to others: all but loopback addresses and the names of RFC 2606 and RFC 6761
/// that never do. A forced lab also goes by names and addresses of its own network.
fn is_public(issuer: &str, forced: bool) -> bool {
    let Ok(url) = url::Url::parse(issuer) else { return true };
    let host = match url.host() {
        Some(url::Host::Ipv4(address)) => return !of_own_network(address.into(), forced),
        Some(url::Host::Ipv6(address)) => return !of_own_network(address.into(), forced),
        Some(url::Host::Domain(host)) => host.trim_end_matches('.').to_ascii_lowercase(),
        None => return true,
    };
    let (top, several) = host.rsplit_once('.').map_or((host.as_str(), false), |(_, top)| (top, true));
    let reserved = ["localhost", "test", "example", "invalid"].contains(&top);
    let own = forced && (!several || ["internal", "local"].contains(&top));
    !(reserved || own)
}

fn of_own_network(address: IpAddr, forced: bool) -> bool {
    let private = match address {
        IpAddr::V4(address) => address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    };
    address.is_loopback() || (forced && (private || address.is_unspecified()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_issuer_is_told_from_one_of_a_laboratory() {
        for (issuer, public, public_when_forced) in [
            ("http://127.0.0.1:8080", false, false),
            ("http://127.9.9.9", false, false),
            ("http://[::1]:8080", false, false),
            ("http://localhost:8080", false, false),
            ("https://id.localhost", false, false),
            ("https://id.test", false, false),
            ("https://id.shop.example", false, false),
            ("https://ID.SHOP.EXAMPLE.", false, false),
            ("http://tollgate:8080", true, false),
            ("http://id.internal", true, false),
            ("http://10.1.2.3", true, false),
            ("http://0.0.0.0:8080", true, false),
            ("http://[fd00::1]", true, false),
            ("http://8.8.8.8", true, true),
            ("http://[2606:4700::1]", true, true),
            ("https://id.example.com", true, true),
            ("https://localhost.evil.com", true, true),
            ("https://test", false, false),
            ("https://com", true, false),
        ] {
            assert_eq!((is_public(issuer, false), is_public(issuer, true)), (public, public_when_forced), "{issuer}");
        }
    }
}
