-- +goose Up
-- Earlier releases signed what was dated in the future, and the latest claim of a line is
-- what is in force: such a row kept all later ones out. Nothing can have been found after
-- it was signed. 300 seconds is the skew of clocks that is allowed for.
UPDATE signing_log SET claim_time = sign_time WHERE claim_time > sign_time + 300000000000;

-- +goose Down
SELECT 1;
