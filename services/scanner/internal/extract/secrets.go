package extract

import (
	"bytes"
	"context"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/google/osv-scalibr/veles"
	"github.com/google/osv-scalibr/veles/secrets/anthropicapikey"
	"github.com/google/osv-scalibr/veles/secrets/awsaccesskey"
	"github.com/google/osv-scalibr/veles/secrets/azurestorageaccountaccesskey"
	"github.com/google/osv-scalibr/veles/secrets/cratesioapitoken"
	"github.com/google/osv-scalibr/veles/secrets/digitaloceanapikey"
	"github.com/google/osv-scalibr/veles/secrets/dockerhubpat"
	"github.com/google/osv-scalibr/veles/secrets/gcpapikey"
	"github.com/google/osv-scalibr/veles/secrets/gcpsak"
	"github.com/google/osv-scalibr/veles/secrets/github"
	"github.com/google/osv-scalibr/veles/secrets/gitlabpat"
	"github.com/google/osv-scalibr/veles/secrets/hashicorpvault"
	"github.com/google/osv-scalibr/veles/secrets/huggingfaceapikey"
	"github.com/google/osv-scalibr/veles/secrets/npmjsaccesstoken"
	"github.com/google/osv-scalibr/veles/secrets/openai"
	"github.com/google/osv-scalibr/veles/secrets/privatekey"
	"github.com/google/osv-scalibr/veles/secrets/pypiapitoken"
	"github.com/google/osv-scalibr/veles/secrets/rubygemsapikey"
	"github.com/google/osv-scalibr/veles/secrets/sendgrid"
	"github.com/google/osv-scalibr/veles/secrets/slacktoken"
	"github.com/google/osv-scalibr/veles/secrets/stripeapikeys"
	"github.com/google/osv-scalibr/veles/secrets/urlcreds"
)

// maxSecretFile is the size of the largest file that is searched for credentials.
// Files that hold some are small.
const maxSecretFile = 256 << 10

// secretKind is a kind of credential and how it is recognised.
type secretKind struct {
	name string
	in   func(text []byte) bool
	// literals: a text without any of them has none. The patterns read a few hundred
	// kilobytes a second, a search for a literal a thousand times as much.
	literals []string
	// files are the ends of the paths it is looked for in; nil for all candidates.
	files []string
}

// secretKinds are credentials that can hardly be anything else: tokens with a prefix
// of their issuer, keys in armour, and the members for credentials of well-known
// files. scalibr's other detectors find hashes and examples by the thousand.
func secretKinds() []secretKind {
	var out []secretKind
	for name, d := range map[string]veles.Detector{
		"anthropic-api-key":         anthropicapikey.NewDetector(),
		"aws-access-key":            awsaccesskey.NewDetector(),
		"azure-storage-key":         azurestorageaccountaccesskey.NewDetector(),
		"crates-io-token":           cratesioapitoken.NewDetector(),
		"digitalocean-token":        digitaloceanapikey.NewDetector(),
		"docker-hub-token":          dockerhubpat.NewDetector(),
		"gcp-api-key":               gcpapikey.NewDetector(),
		"gcp-service-account-key":   gcpsak.NewDetector(),
		"github-app-refresh-token":  github.NewAppRefreshTokenDetector(),
		"github-app-token":          github.NewAppS2STokenDetector(),
		"github-fine-grained-token": github.NewFineGrainedPATDetector(),
		"github-oauth-token":        github.NewOAuthTokenDetector(),
		"github-token":              github.NewClassicPATDetector(),
		"github-user-token":         github.NewAppU2SDetector(),
		"gitlab-token":              gitlabpat.NewDetector(),
		"hugging-face-token":        huggingfaceapikey.NewDetector(),
		"npm-token":                 npmjsaccesstoken.NewDetector(),
		"openai-api-key":            openai.NewDetector(),
		"private-key":               privatekey.NewDetector(),
		"pypi-token":                pypiapitoken.NewDetector(),
		"rubygems-api-key":          rubygemsapikey.NewDetector(),
		"sendgrid-api-key":          sendgrid.NewDetector(),
		"slack-app-token":           slacktoken.NewAppLevelTokenDetector(),
		"slack-configuration-token": slacktoken.NewAppConfigAccessTokenDetector(),
		"stripe-secret-key":         stripeapikeys.NewSecretKeyDetector(),
		"stripe-restricted-key":     stripeapikeys.NewRestrictedKeyDetector(),
	} {
		out = append(out, secretKind{name: name, literals: secretLiterals[name], in: func(text []byte) bool {
			found, _ := d.Detect(text)
			return len(found) > 0
		}})
	}
	out = append(out, secretKind{name: "url-password", literals: []string{"://"}, in: urlPassword}, secretKind{name: "vault-token", literals: []string{"hvs.", "hvb."}, in: vaultToken})
	for name, c := range map[string]struct {
		expression string
		files      []string
		literals   []string
	}{
		"docker-config-auth": {`"(auth|identitytoken)"\s*:\s*"[A-Za-z0-9+/=._-]{8,}"`, []string{".docker/config.json", ".dockercfg"}, []string{"auth", "identitytoken"}},
		"npmrc-auth":         {`(?m)^[^#;\n]*_(authToken|auth|password)\s*=\s*"?[A-Za-z0-9+/=._-]{8,}`, []string{".npmrc"}, []string{"_auth", "_password"}},
		"netrc-password":     {`(?m)\bpassword\s+[^\s$<{][^\s]{2,}`, []string{".netrc", "_netrc"}, []string{"password"}},
		"pypirc-password":    {`(?m)^\s*password\s*[:=]\s*[^\s$<{%][^\s]{2,}`, []string{".pypirc"}, []string{"password"}},
		"maven-password":     {`<(password|privateKey|passphrase)>\s*[^\s<${][^<]{2,}</`, []string{".m2/settings.xml"}, []string{"<pass", "<privateKey>"}},
		"kubeconfig":         {`(?m)^\s*(client-key-data|token|password):\s*"?[A-Za-z0-9+/=._-]{12,}`, []string{".kube/config", "kubeconfig", ".kubeconfig"}, []string{"client-key-data", "token", "password"}},
		"pgpass-password":    {`(?m)^[^#:\n]+:[^:\n]+:[^:\n]+:[^:\n]+:[^\s*]+`, []string{".pgpass"}, []string{":"}},
	} {
		re := regexp.MustCompile(c.expression)
		out = append(out, secretKind{name: name, in: re.Match, files: c.files, literals: c.literals})
	}
	slices.SortFunc(out, func(a, b secretKind) int { return strings.Compare(a.name, b.name) })
	return out
}

// secretLiterals are of those detectors that do not look for one themselves.
var secretLiterals = map[string][]string{
	"aws-access-key":          {"AKIA", "ASIA"},
	"azure-storage-key":       {"=="},
	"crates-io-token":         {"cio"},
	"docker-hub-token":        {"dckr_pat_"},
	"gcp-service-account-key": {"auth_provider_x509_cert_url", "ewogICJ0eXBlIjogInNlcnZpY2VfYWNjb3VudCIs"},
}

// vaultToken: tokens of the older form, `s.` and anything, look like much else.
func vaultToken(text []byte) bool {
	found, _ := hashicorpvault.NewTokenDetector().Detect(text)
	return slices.ContainsFunc(found, func(s veles.Secret) bool {
		t, ok := s.(hashicorpvault.Token)
		return ok && strings.HasPrefix(t.Token, "hv")
	})
}

// urlPassword: a URL with a password that is no placeholder.
func urlPassword(text []byte) bool {
	found, _ := urlcreds.NewDetector().Detect(text)
	return slices.ContainsFunc(found, func(s veles.Secret) bool {
		c, ok := s.(urlcreds.Credentials)
		if !ok {
			return false
		}
		u, err := url.Parse(c.FullURL)
		if err != nil {
			return false
		}
		password, _ := u.User.Password()
		return len(password) > 2 && !strings.ContainsAny(password, "$<>{}*%")
	})
}

// find returns the kinds of credentials in a text, in order.
func find(kinds []secretKind, p string, text []byte) []string {
	var out []string
	for i := range kinds {
		k := &kinds[i]
		if k.files != nil && !slices.ContainsFunc(k.files, func(end string) bool { return hasPathSuffix(p, end) }) {
			continue
		}
		if k.literals != nil && !slices.ContainsFunc(k.literals, func(l string) bool { return bytes.Contains(text, []byte(l)) }) {
			continue
		}
		if k.in(text) {
			out = append(out, k.name)
		}
	}
	return out
}

// hasPathSuffix tells whether a path ends with whole components, or with an
// extension such as `.kubeconfig`.
func hasPathSuffix(p, end string) bool {
	return p == end || strings.HasSuffix(p, "/"+end) || strings.HasPrefix(end, ".") && !strings.Contains(end, "/") && path.Ext(p) == end
}

// secretsPlugin looks for credentials in files that are made to hold some.
func secretsPlugin() *plugin {
	kinds := secretKinds()
	return &plugin{
		name:     "secrets",
		required: isSecretFile,
		maxSize:  maxSecretFile,
		lenient:  true,
		search:   true,
		look: func(_ context.Context, p string, content *content, out *file) error {
			text, err := content.bytes()
			if err != nil || bytes.IndexByte(text[:min(len(text), 512)], 0) >= 0 {
				return err
			}
			out.secrets = find(kinds, p, text)
			return nil
		},
	}
}

// Names of files that are made to hold credentials.
var (
	secretNames = []string{
		".env", ".npmrc", ".yarnrc", ".yarnrc.yml", ".netrc", "_netrc", ".pypirc", "pip.conf", ".git-credentials", ".pgpass", ".dockercfg",
		".vault-token", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "kubeconfig", "terraform.tfstate", "terraform.tfstate.backup",
		"terraform.tfvars", "application_default_credentials.json", "wp-config.php", "auth.json", "local.settings.json",
		"docker-compose.yml", "docker-compose.yaml", "compose.yml", "compose.yaml",
	}
	secretPlaces = []string{
		".docker/config.json", ".m2/settings.xml", ".kube/config", ".aws/credentials", ".aws/config", ".gem/credentials", ".cargo/credentials",
		".cargo/credentials.toml", ".config/gh/hosts.yml", ".azure/accessTokens.json",
	}
	secretEnds = []string{".pem", ".key", ".tfvars", ".kubeconfig"}
	// secretData are what applications are told their credentials by.
	secretData = []string{".json", ".yml", ".yaml", ".properties", ".toml", ".ini"}
)

// publicPlaces have the keys and examples of packages and the certificates of
// authorities.
var publicPlaces = []string{"etc/ssl/certs/", "etc/pki/", "usr/share/", "usr/lib/", "usr/local/share/", "usr/local/lib/", "lib/", "proc/", "sys/"}

func isSecretFile(p string, info fs.FileInfo) bool {
	if info.Size() > maxSecretFile || info.Size() < 8 {
		return false
	}
	base := path.Base(p)
	return looksSecret(p, base) && !ofInstalled(p) &&
		!slices.ContainsFunc(publicPlaces, func(place string) bool { return strings.HasPrefix(p, place) })
}

func looksSecret(p, base string) bool {
	if slices.Contains(secretNames, base) || slices.Contains(secretEnds, path.Ext(base)) {
		return true
	}
	if strings.HasPrefix(base, ".env.") {
		return !slices.Contains([]string{".example", ".sample", ".template", ".dist", ".test"}, path.Ext(base))
	}
	if slices.Contains(secretData, path.Ext(base)) {
		for _, word := range []string{"secret", "credential", "password", "service-account", "service_account", "serviceaccount"} {
			if strings.Contains(strings.ToLower(base), word) {
				return true
			}
		}
	}
	return slices.ContainsFunc(secretPlaces, func(end string) bool { return hasPathSuffix(p, end) })
}

// Secrets returns the kinds of credentials in a value of the environment, in order.
// It is safe for use by several goroutines; nil when credentials are not looked for.
func (x *Extractor) Secrets(name, value string) []string {
	if x.options.SkipSecrets || len(value) > maxSecretFile {
		return nil
	}
	return find(x.kinds, "", []byte(name+"="+value+"\n"))
}
