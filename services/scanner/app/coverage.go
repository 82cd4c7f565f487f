package app

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/snapshots"
)

// maxNotCovered is how many ecosystems a warning is remembered of; images can name as many
// releases as they like.
const maxNotCovered = 1000

// notCovered warns of what there are no advisories about, once for each snapshot.
func notCovered(log *slog.Logger, k *snapshots.Keeper) func(context.Context, string) {
	var mu sync.Mutex
	said, snapshot := map[string]bool{}, ""
	return func(ctx context.Context, problem string) {
		mu.Lock()
		defer mu.Unlock()
		if now := k.Current(); now != nil && now.Info().Digest != snapshot {
			said, snapshot = map[string]bool{}, now.Info().Digest
		}
		ecosystem := problem
		if i := strings.LastIndex(problem, " ("); i > 0 {
			ecosystem = problem[:i] // without the number of packages
		}
		if said[ecosystem] || len(said) >= maxNotCovered {
			return
		}
		said[ecosystem] = true
		log.WarnContext(ctx, "reports are incomplete: advisories missing", "problem", problem,
			"remedy", "add the ecosystem's all.zip of osv.dev to advisories.feeds, or import it: seaworthyctl advisories import")
	}
}
