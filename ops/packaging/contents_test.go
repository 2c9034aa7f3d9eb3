//go:build packages

package packaging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// everywhere is what each package of chmpx has.
var everywhere = []string{
	"/usr/bin/chmpx", "/usr/bin/chmpxctl", "/usr/bin/chmpxconftest", "/usr/bin/chmpxlinetool", "/usr/bin/chmpxstatus", "/usr/bin/chmpxbench", "/usr/libexec/chmpx-service-helper",
	"/usr/lib/systemd/system/chmpx.service", "/usr/lib/systemd/system/chmpx-hardened.service", "/usr/lib/sysusers.d/chmpx.conf",
	"/etc/antpickax/chmpx-service-helper.conf", "/etc/antpickax/chmpx.ini.example",
	"/usr/share/man/man1/chmpx.1.gz", "/usr/share/man/man1/chmpxctl.1.gz", "/usr/share/man/man1/chmpxbench.1.gz",
	"/usr/share/man/man1/chmpxconftest.1.gz", "/usr/share/man/man1/chmpxlinetool.1.gz", "/usr/share/man/man1/chmpxstatus.1.gz",
	"/usr/share/bash-completion/completions/chmpxlinetool",
	"/usr/share/man/man8/chmpx-service-helper.8.gz",
	"/usr/share/bash-completion/completions/chmpxctl", "/usr/share/fish/vendor_completions.d/chmpxctl.fish",
	"/usr/share/doc/chmpx/docs/service.md", "/usr/share/doc/chmpx/docs/upgrading-from-chmpx.md", "/usr/share/doc/chmpx/copyright",
}

// forAuthors is what the package for authors has, below its document directory.
var forAuthors = []string{"delivery.md", "client/example_test.go", "examples/test_server.ini", "examples/test_slave.yaml", "copyright"}

// one returns the one file that a pattern below dist names.
func one(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dist, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s in dist is %q, %v, want one file", pattern, found, err)
	}
	return found[0]
}

func wantAll(t *testing.T, what string, got, want []string) {
	t.Helper()
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("%s has no %s; it has\n%s", what, w, strings.Join(got, "\n"))
		}
	}
}

func under(dir string, names []string) []string {
	var all []string
	for _, n := range names {
		all = append(all, dir+n)
	}
	return all
}

// The rpms have all files; configurations are marked so that upgrades leave
// them alone; no script enables or starts a service that was not running.
func TestRpm(t *testing.T) {
	file := one(t, "chmpx-[0-9]*.rpm")
	wantAll(t, file, strings.Fields(output(t, "rpm", "-qpl", file)), append(everywhere, "/usr/share/zsh/site-functions/_chmpxctl"))
	if got := strings.TrimSpace(output(t, "rpm", "-qp", "--queryformat", "[%{FILENAMES} %{FILEFLAGS:fflags}\n]", file)); !strings.Contains(got, "chmpx-service-helper.conf cn") {
		t.Errorf("chmpx-service-helper.conf is not config(noreplace):\n%s", got)
	}
	if got := output(t, "rpm", "-qp", "--queryformat", "%{NAME} %{LICENSE} %{RELEASE}", file); got != "chmpx MIT 1" {
		t.Errorf("name, licence and release are %q", got)
	}
	scripts := output(t, "rpm", "-qp", "--scripts", file)
	for _, want := range []string{"postinstall scriptlet", "preuninstall scriptlet", "postuninstall scriptlet", "daemon-reload", "disable --now chmpx.service"} {
		if !strings.Contains(scripts, want) {
			t.Errorf("the scripts have no %q:\n%s", want, scripts)
		}
	}
	if strings.Contains(scripts, "systemctl enable") || strings.Contains(scripts, "systemctl start") {
		t.Errorf("the scripts start something:\n%s", scripts)
	}
	devel := one(t, "chmpx-devel-*.rpm")
	wantAll(t, devel, strings.Fields(output(t, "rpm", "-qpl", devel)), under("/usr/share/doc/chmpx-devel/", forAuthors))
	if got := output(t, "rpm", "-qpR", devel); !strings.Contains(got, "chmpx\n") {
		t.Errorf("chmpx-devel does not need chmpx:\n%s", got)
	}
}

// The debs have all files, and chmpx-service-helper.conf is a conffile.
func TestDeb(t *testing.T) {
	file := one(t, "chmpx_*.deb")
	var got []string
	for line := range strings.Lines(output(t, "dpkg-deb", "-c", file)) {
		got = append(got, strings.TrimPrefix(strings.Fields(line)[5], "."))
	}
	wantAll(t, file, got, append(everywhere, "/usr/share/zsh/vendor-completions/_chmpxctl"))
	if got := output(t, "dpkg-deb", "-I", file, "conffiles"); got != "/etc/antpickax/chmpx-service-helper.conf\n" {
		t.Errorf("conffiles are %q", got)
	}
	dev := one(t, "chmpx-dev_*.deb")
	got = nil
	for line := range strings.Lines(output(t, "dpkg-deb", "-c", dev)) {
		got = append(got, strings.TrimPrefix(strings.Fields(line)[5], "."))
	}
	wantAll(t, dev, got, under("/usr/share/doc/chmpx-dev/", forAuthors))
}

// The apks, gzip streams of tar files one behind the other, have all files and
// scripts that a shell accepts.
func TestApk(t *testing.T) {
	for pattern, want := range map[string][]string{
		"chmpx_*.apk":     append(everywhere, "/usr/share/zsh/site-functions/_chmpxctl", "/.PKGINFO", "/.post-install", "/.pre-deinstall"),
		"chmpx-dev_*.apk": append(under("/usr/share/doc/chmpx-dev/", forAuthors), "/.PKGINFO"),
	} {
		file := one(t, pattern)
		files := apkFiles(t, file)
		var got []string
		for name, text := range files {
			got = append(got, name)
			if bytes.HasPrefix(text, []byte("#!/bin/sh\n")) {
				cmd := exec.Command("sh", "-n")
				cmd.Stdin = bytes.NewReader(text)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s of %s: %v\n%s", name, file, err, out)
				}
			}
		}
		wantAll(t, file, got, want)
		if info := string(files["/.PKGINFO"]); !strings.Contains(info, "license = MIT") || !strings.Contains(info, "pkgname = chmpx") {
			t.Errorf("%s says of itself\n%s", file, info)
		}
	}
}

// apkFiles returns the files of an apk.
func apkFiles(t *testing.T, path string) map[string][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f) // reads all streams
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files["/"+strings.TrimSuffix(h.Name, "/")], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// The tarball has binaries that run and know their version.
func TestTarball(t *testing.T) {
	dir := t.TempDir()
	output(t, "tar", "-C", dir, "-xzf", one(t, "chmpx-*-linux-*.tar.gz"))
	found, err := filepath.Glob(filepath.Join(dir, "*/bin/chmpx"))
	if err != nil || len(found) != 1 {
		t.Fatalf("chmpx in the tarball: %q, %v", found, err)
	}
	if got := output(t, found[0], "-v"); !strings.HasPrefix(got, "CHMPX Version ") {
		t.Errorf("chmpx -v says %q", got)
	}
}

// Every blob of the image layout has its digest and length, and the layer the
// binaries.
func TestOci(t *testing.T) {
	root := one(t, "chmpx-*-oci")
	type descriptor struct {
		Digest string
		Size   int
	}
	read := func(d descriptor) []byte {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(root, "blobs", "sha256", strings.TrimPrefix(d.Digest, "sha256:")))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(text); "sha256:"+hex.EncodeToString(sum[:]) != d.Digest || len(text) != d.Size {
			t.Errorf("blob %s has other bytes", d.Digest)
		}
		return text
	}
	parse := func(text []byte, v any) {
		t.Helper()
		if err := json.Unmarshal(text, v); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index struct{ Manifests []descriptor }
	parse(text, &index)
	if len(index.Manifests) == 0 {
		t.Fatal("the index is empty")
	}
	for _, m := range index.Manifests {
		var manifest struct {
			Config descriptor
			Layers []descriptor
		}
		parse(read(m), &manifest)
		var config struct {
			Config struct{ Entrypoint []string }
			Rootfs struct {
				DiffIDs []string `json:"diff_ids"`
			}
		}
		parse(read(manifest.Config), &config)
		z, err := gzip.NewReader(bytes.NewReader(read(manifest.Layers[0])))
		if err != nil {
			t.Fatal(err)
		}
		files, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(files); config.Rootfs.DiffIDs[0] != "sha256:"+hex.EncodeToString(sum[:]) {
			t.Error("diff_ids does not name the layer")
		}
		var got []string
		for r := tar.NewReader(bytes.NewReader(files)); ; {
			h, err := r.Next()
			if err != nil {
				break
			}
			got = append(got, "/"+h.Name)
		}
		wantAll(t, "the layer", got, append(config.Config.Entrypoint, "/usr/bin/chmpxctl", "/var/lib/chmpx/", "/tmp/"))
	}
}

// Checksums are right, and the list of components has what chmpx is made of.
func TestSums(t *testing.T) {
	cmd := exec.Command("sha256sum", "--check", "--quiet", "SHA256SUMS")
	cmd.Dir = dist
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(one(t, "*.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		BomFormat  string
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(text, &bom); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, c := range bom.Components {
		found = found || c.Name == "github.com/hashicorp/raft" && c.Version != ""
	}
	if bom.BomFormat != "CycloneDX" || !found {
		t.Errorf("the list of components is a %q with %v", bom.BomFormat, bom.Components)
	}
}
