// Command oci writes an image layout (OCI image-spec 1.1) of chmpx without a
// container engine: an index with one image per architecture, each of one
// layer that holds the binaries. The same input gives the same layout.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

func main() {
	version := flag.String("version", "", "version of the image")
	stage := flag.String("stage", "", "directory with <arch>/bin")
	out := flag.String("out", "", "directory of the layout, which must not exist")
	flag.Parse()
	if err := run(*version, *stage, *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "oci:", err)
		os.Exit(1)
	}
}

// run writes the layout.
func run(version, stage, out string, archs []string) error {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("read SOURCE_DATE_EPOCH: %w", err)
	}
	if err := os.Mkdir(out, 0o755); err != nil {
		return fmt.Errorf("create the layout: %w", err)
	}
	l := layout{dir: out, version: version, made: time.Unix(seconds, 0).UTC()}
	var images []descriptor
	for _, arch := range archs {
		image, err := l.image(arch, filepath.Join(stage, arch, "bin"))
		if err != nil {
			return fmt.Errorf("image for %s: %w", arch, err)
		}
		images = append(images, image)
	}
	return l.index(images)
}
