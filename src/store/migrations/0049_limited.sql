-- Since when a tenant is held to lower limits because an invoice is overdue.
ALTER TABLE billing_accounts ADD COLUMN limited_at {time};
