//! How the kernel's words look in the API's description.

use utoipa::openapi::{
    ObjectBuilder, RefOr, Schema,
    schema::{SchemaType, Type},
};

use crate::kernel::{
    BillingAccountId, BrowserId, ClientId, CouponId, CreditId, CreditNoteId, Currency, EventId, InfrastructureId,
    InitialTokenId, InvoiceId, MeterId, PaymentId, Quantity, RegistrationId, SessionId, TenantId, TierChangeId,
    Timestamp, UserId, WebhookId,
};

fn text(format: &str, description: &str) -> RefOr<Schema> {
    let format = utoipa::openapi::SchemaFormat::Custom(format.to_owned());
    let object = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .format(Some(format))
        .description(Some(description.to_owned()));
    RefOr::T(Schema::Object(object.build()))
}

macro_rules! schemas {
    ($($type:ty => $format:expr, $description:expr;)*) => {$(
        impl utoipa::PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                text($format, $description)
            }
        }
        impl utoipa::ToSchema for $type {}
    )*};
}

schemas! {
    TenantId => "uuid", "A tenant (UUIDv7).";
    UserId => "uuid", "A user (UUIDv7).";
    RegistrationId => "uuid", "A registration (UUIDv7).";
    TierChangeId => "uuid", "A change of tier (UUIDv7).";
    BillingAccountId => "uuid", "A billing account (UUIDv7).";
    InfrastructureId => "uuid", "A piece of infrastructure (UUIDv7).";
    MeterId => "uuid", "A meter (UUIDv7; a stock meter's is made from its key).";
    SessionId => "uuid", "A session (UUIDv7).";
    BrowserId => "uuid", "A browser that somebody is signed in with (UUIDv7).";
    InitialTokenId => "uuid", "An initial access token (UUIDv7).";
    ClientId => "uuid", "A machine client (UUIDv7).";
    EventId => "uuid", "An event (UUIDv7); the `webhook-id` of its deliveries.";
    WebhookId => "uuid", "An address that is told of events (UUIDv7).";
    InvoiceId => "uuid", "An invoice (UUIDv7).";
    CreditNoteId => "uuid", "A credit note (UUIDv7).";
    PaymentId => "uuid", "A payment (UUIDv7).";
    CreditId => "uuid", "A prepaid credit (UUIDv7).";
    CouponId => "uuid", "A coupon (UUIDv7).";
    Timestamp => "date-time", "RFC 3339, UTC.";
    Quantity => "decimal", "An exact decimal number as text, up to 28 significant digits.";
    Currency => "iso-4217", "A currency code such as USD.";
}
