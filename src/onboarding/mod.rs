//! Onboarding: brings a customer in (tenant → user → billing account → provisioning → activation), takes it out again in
//! steps that end with a tombstone, moves it between tiers, and manages its people. It owns registrations and orchestrates the services
//! that own the rest.
//!
//! Invariants: what can be refused is refused before anything is made; each step of a registration is written before it is
//! acted on, and done once; whatever a crash interrupts is taken up by the next start, or by another node, and by one alone;
//! it ends with the tenant in use or with everything taken back and the name free. Registering twice makes nothing twice. Only
//! an administrator's registration joins an existing tenant by its name; public sign-up never does, unless the tenant lets
//! people of the email's domain in and the email is verified.

mod accept;
mod customer_http;
mod domains;
mod domains_http;
mod dunning;
mod erasure;
pub mod error;
mod export;
mod exporting;
pub mod http;
mod invitation_http;
pub mod invitations;
mod invoice_export_http;
mod invoice_money_http;
pub mod leaving;
mod leaving_http;
mod me_http;
pub mod model;
mod named;
mod offboard;
mod pages;
pub mod people;
mod people_http;
pub mod points;
mod portal_http;
pub mod rules;
mod saga;
mod service;
mod sign_up;
mod signed;
mod steps;
mod tier_change;
mod tier_change_http;
pub mod tier_model;
mod tier_points;
mod tier_steps;
mod zip;

pub use dunning::Closed;
pub use error::Error;
pub use exporting::Archive;
pub use leaving::{LeavingState, LeavingStep, Offboarding, OffboardingStatus};
pub use model::{Entrance, Intent, Invitation, Registration, RegistrationStatus, Request, Step, StepName, StepStatus};
pub use named::Named;
pub use offboard::Left;
pub use people::NewMember;
pub use points::{Point, Points, Rig, Rigged};
pub use rules::Retries;
pub use service::{Leaving, Onboarding, Services, SignUps, UnderWay};
pub use sign_up::SignedUp;
pub use tier_change::{Move, Moves, TierAnswer};
pub use tier_model::TierChange;
pub use tier_points::TierPoints;
