package cli

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/trainrelay/trainrelay/internal/jobspec"
)

// TestJobFileFromURL: a job file is fetched, within bounds, and what is beside it is not.
func TestJobFileFromURL(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		const job = "command: run\nenvironment: i:1\ncompute: c\n"
		switch r.URL.Path {
		case "/job.yml":
			_, _ = w.Write([]byte(job))
		case "/moved.yml":
			http.Redirect(w, r, "/job.yml", http.StatusFound)
		case "/code.yml":
			_, _ = w.Write([]byte(job + "code: ./src\n"))
		case "/huge.yml":
			_, _ = w.Write([]byte(strings.Repeat("#", 2*jobspec.MaxSize)))
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	for path, want := range map[string]string{
		"/job.yml": "is valid", "/moved.yml": "is valid", "/none.yml": "404", "/huge.yml": "a job file has at most",
		"/code.yml": "code.yml:4:7: \"./src\" is a path beside the file, which was fetched from a URL",
	} {
		code, _, errs := command(t, nil, "job", "validate", "-f", server.URL+path)
		if !strings.Contains(errs, want) || (code == exitOK) != (want == "is valid") {
			t.Errorf("%s: exit code %d, %s; want %q", path, code, errs, want)
		}
	}
	server.Close()
	if code, _, errs := command(t, nil, "job", "validate", "-f", server.URL+"/job.yml"); code != exitUsage || !strings.Contains(errs, "refused") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
