package fleet

import "testing"

// What one service may make another must be able to fetch, with no key set.
func TestDefaultLimitsAgree(t *testing.T) {
	c := Default()
	if give, take := c.Scanner.Server.MaxMessage, c.Signer.MaxReport; give < take {
		t.Errorf("the scanner gives out scans of at most %v, the signer takes %v", give, take)
	}
}
