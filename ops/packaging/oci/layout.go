package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// The media types of the image specification that are used.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// descriptor points to a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// layout is a directory that is being filled.
type layout struct {
	dir     string
	version string
	made    time.Time // the date of everything
}

// image writes the blobs of one architecture.
func (l layout) image(arch, bin string) (descriptor, error) {
	files, err := l.tar(bin)
	if err != nil {
		return descriptor{}, err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return descriptor{}, fmt.Errorf("compress: %w", err)
	}
	if _, err := z.Write(files); err != nil {
		return descriptor{}, fmt.Errorf("compress: %w", err)
	}
	if err := z.Close(); err != nil {
		return descriptor{}, fmt.Errorf("compress: %w", err)
	}
	layer, err := l.blob(typeLayer, packed.Bytes())
	if err != nil {
		return descriptor{}, err
	}
	config, err := l.jsonBlob(typeConfig, l.config(arch, digest(files)))
	if err != nil {
		return descriptor{}, err
	}
	manifest, err := l.jsonBlob(typeManifest, map[string]any{
		"schemaVersion": 2, "mediaType": typeManifest, "config": config, "layers": []descriptor{layer}})
	manifest.Platform = &platform{arch, "linux"}
	manifest.Annotations = map[string]string{"org.opencontainers.image.ref.name": l.version}
	return manifest, err
}

// config is how the image runs: a node of /etc/antpickax/chmpx.ini, which is
// mounted, with its data in a volume. SIGHUP lets it leave its ring in order.
func (l layout) config(arch, layer string) map[string]any {
	return map[string]any{
		"created": l.made.Format(time.RFC3339), "architecture": arch, "os": "linux",
		"config": map[string]any{
			"Entrypoint": []string{"/usr/bin/chmpx"}, "Cmd": []string{"-conf", "/etc/antpickax/chmpx.ini"},
			"Env":     []string{"PATH=/usr/bin", "STATE_DIRECTORY=/var/lib/chmpx"},
			"Volumes": map[string]any{"/var/lib/chmpx": struct{}{}, "/run/chmpx": struct{}{}}, "StopSignal": "SIGHUP",
			"ExposedPorts": map[string]any{"8020/tcp": struct{}{}, "8021/tcp": struct{}{}},
			"Labels":       map[string]string{"org.opencontainers.image.title": "chmpx", "org.opencontainers.image.version": l.version, "org.opencontainers.image.licenses": "MIT"},
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{layer}},
		"history": []map[string]string{{"created": l.made.Format(time.RFC3339), "created_by": "ops/packaging/oci"}},
	}
}

// tar returns the layer: the binaries, and the directories that a node needs.
func (l layout) tar(bin string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, dir := range []string{"etc/", "etc/antpickax/", "run/", "run/chmpx/", "tmp/", "usr/", "usr/bin/", "var/", "var/lib/", "var/lib/chmpx/"} {
		mode := int64(0o755)
		if dir == "tmp/" {
			mode = 0o1777
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: mode, ModTime: l.made}); err != nil {
			return nil, fmt.Errorf("write layer: %w", err)
		}
	}
	entries, err := os.ReadDir(bin) // sorted
	if err != nil {
		return nil, fmt.Errorf("read binaries: %w", err)
	}
	for _, e := range entries {
		h := tar.Header{Typeflag: tar.TypeReg, Name: "usr/bin/" + e.Name(), Mode: 0o755, ModTime: l.made}
		var text []byte
		if e.Type() == os.ModeSymlink {
			h.Typeflag = tar.TypeSymlink
			h.Linkname, err = os.Readlink(filepath.Join(bin, e.Name()))
		} else {
			text, err = os.ReadFile(filepath.Join(bin, e.Name()))
		}
		if err != nil {
			return nil, fmt.Errorf("read binaries: %w", err)
		}
		h.Size = int64(len(text))
		if err := w.WriteHeader(&h); err != nil {
			return nil, fmt.Errorf("write layer: %w", err)
		}
		if _, err := w.Write(text); err != nil {
			return nil, fmt.Errorf("write layer: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	return b.Bytes(), nil
}

// index writes what makes the directory a layout.
func (l layout) index(images []descriptor) error {
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": images})
	if err != nil {
		return fmt.Errorf("encode the index: %w", err)
	}
	for name, text := range map[string][]byte{"index.json": index, "oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)} {
		if err := os.WriteFile(filepath.Join(l.dir, name), text, 0o644); err != nil {
			return fmt.Errorf("write the layout: %w", err)
		}
	}
	return nil
}

// jsonBlob writes a value.
func (l layout) jsonBlob(mediaType string, v any) (descriptor, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, fmt.Errorf("encode %s: %w", mediaType, err)
	}
	return l.blob(mediaType, text)
}

// blob writes bytes under their digest.
func (l layout) blob(mediaType string, text []byte) (descriptor, error) {
	d := descriptor{MediaType: mediaType, Digest: digest(text), Size: int64(len(text))}
	dir := filepath.Join(l.dir, "blobs", "sha256")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return d, fmt.Errorf("write blob: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, d.Digest[len("sha256:"):]), text, 0o644); err != nil {
		return d, fmt.Errorf("write blob: %w", err)
	}
	return d, nil
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}
