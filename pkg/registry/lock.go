package registry

import "context"

// SubjectLock waits until no other process writes the referrers tag of a subject,
// which key names, or until ctx ends. The caller calls unlock once.
type SubjectLock func(ctx context.Context, key string) (unlock func(), err error)

// UseSubjectLock makes the writers of referrers tags of all processes that use the
// same lock take turns. Without it only those of this process do, and what
// others overwrite is put back. It must be called before the client is used.
func (c *Client) UseSubjectLock(l SubjectLock) { c.shared = l }

// lockSubject takes this process's lock first: of one process at most one waits
// for the others.
func (c *Client) lockSubject(ctx context.Context, key string) (func(), error) {
	const op = "wait to write referrers tag"
	local, err := c.subjects.lock(ctx, key)
	if err != nil {
		return nil, &Error{Op: op, Where: key, kind: ErrUnavailable, cause: err}
	}
	if c.shared == nil {
		return local, nil
	}
	shared, err := c.shared(ctx, key)
	if err != nil {
		local()
		return nil, &Error{Op: op, Where: key, kind: ErrUnavailable, cause: err}
	}
	return func() { shared(); local() }, nil
}
