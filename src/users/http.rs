//! Routes of users.
