package scanner

import (
	_ "github.com/google/osv-scalibr/extractor/filesystem/os/apk"
	_ "github.com/google/osv-scalibr/extractor/filesystem/os/dpkg"
	_ "github.com/google/osv-scalibr/extractor/filesystem/language/golang/gobinary"
	_ "github.com/google/osv-scalibr/extractor/filesystem/language/java/archive"
	_ "github.com/google/osv-scalibr/extractor/filesystem/language/javascript/packagejson"
	_ "github.com/google/osv-scalibr/extractor/filesystem/language/python/wheelegg"
	_ "github.com/google/osv-scalibr/semantic"
	_ "github.com/klauspost/compress/gzip"
	_ "github.com/klauspost/compress/zstd"
	_ "github.com/package-url/packageurl-go"
	_ "github.com/pandatix/go-cvss/31"
	_ "github.com/pandatix/go-cvss/20"
	_ "github.com/pandatix/go-cvss/40"
	_ "github.com/spdx/tools-golang/spdx/v2/v2_3"
	_ "github.com/spdx/tools-golang/json"
)
