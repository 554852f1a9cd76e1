-- When the first period without an invoice is over, or earlier: until then there is nothing to look at. Null when nothing will
-- come any more.
ALTER TABLE billing_accounts ADD COLUMN next_due {time};
UPDATE billing_accounts SET next_due = COALESCE(billed_through, opened_at)
WHERE closed_at IS NULL OR closed_at >= COALESCE(billed_through, opened_at);
CREATE INDEX billing_accounts_due ON billing_accounts (next_due, tenant_id) WHERE next_due IS NOT NULL;
