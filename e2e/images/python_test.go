package images

import (
	"os"
	"regexp"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// What training needs is in the image and what it does not need is not. That
// it runs is tested where a node runs it.
func TestPython(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making a root file system needs root")
	}
	file, err := Python(t.Context(), PythonOptions{Cache: "../../dist/images", Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	files := contents(t, mutate.Extract(image))
	for _, test := range []struct {
		path string
		want bool
	}{
		{`^usr/bin/python3\.\d+ `, true},
		{`/sklearn/datasets/data/iris\.csv `, true},
		{`/libblas\.so`, true},
		{`^usr/bin/(.*-)?(gcc|g\+\+|cc1)`, false},
		{`^usr/include/.*\.h `, false},
		{`/numpy/.*/tests/`, false},
		{`^var/cache/apt/archives/.*\.deb `, false},
	} {
		pattern, found := regexp.MustCompile(test.path), false
		for _, file := range files {
			found = found || pattern.MatchString(file)
		}
		if found != test.want {
			t.Errorf("a file like %s is in the image: %t, want %t", test.path, found, test.want)
		}
	}
}
