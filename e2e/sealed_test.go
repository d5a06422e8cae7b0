package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestSealedSecret: a secret of the user's environment reaches the command, is
// in no file and no answer of the relay and in no Job or pod, and its Secret
// goes with the Job.
func TestSealedSecret(t *testing.T) {
	value := "hush-" + rand.Text()
	t.Setenv("HF_TOKEN", value)
	name := unique("sealed")
	file := jobFile(t, "command: printf %s \"$HF_TOKEN\" | sha256sum\nenvironment_variables:\n  HF_TOKEN: ${{secrets.HF_TOKEN}}\n  PLAIN: plain-"+name)
	out := site(t).CLI(t.Context(), "job", "create", "-f", file, "--name", name, "--secret", "HF_TOKEN", "--stream")
	if out.Code != 0 {
		t.Fatalf("exit code %d: %s", out.Code, out.Stderr)
	}
	if want := fmt.Sprintf("%x", sha256.Sum256([]byte(value))); !strings.Contains(out.Stdout, want) {
		t.Errorf("the command saw another value:\n%s", out.Stdout)
	}

	shown := site(t).CLI(t.Context(), "job", "show", "-n", name)
	jobs, pods := kubernetesJobs(t, name), kubernetesPods(t, name)
	if len(jobs) != 1 {
		t.Fatalf("%d Kubernetes Jobs", len(jobs))
	}
	for what, text := range map[string]string{
		"job create": out.Stdout + out.Stderr, "job show": shown.Stdout + shown.Stderr,
		"the Job": fmt.Sprint(jobs), "a pod": fmt.Sprint(pods),
	} {
		if strings.Contains(text, value) {
			t.Errorf("%s has the value", what)
		}
	}
	if !strings.Contains(shown.Stdout, `"HF_TOKEN"`) {
		t.Errorf("job show does not name the secret:\n%s", shown.Stdout)
	}
	plain, secret := filesWith(t, "plain-"+name), filesWith(t, value)
	if len(plain) == 0 {
		t.Error("not even what is plain is found in the relay's files: this test looks in the wrong place")
	}
	if len(secret) > 0 {
		t.Errorf("the value is in %q", secret)
	}

	secrets := site(t).Client.CoreV1().Secrets(jobs[0].Namespace)
	if _, err := secrets.Get(t.Context(), jobs[0].Name+"-env", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	background := metav1.DeletePropagationBackground
	if err := site(t).Client.BatchV1().Jobs(jobs[0].Namespace).Delete(t.Context(), jobs[0].Name, metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		if _, err := secrets.Get(t.Context(), jobs[0].Name+"-env", metav1.GetOptions{}); apierrors.IsNotFound(err) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the Secret stays without its Job")
		}
	}
}

// filesWith lists the relay's files, its log among them, that have the text.
func filesWith(t *testing.T, text string) (found []string) {
	t.Helper()
	for _, dir := range site(t).RelayFiles() {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return nil // gone meanwhile: JetStream compacts
			}
			data, err := os.ReadFile(path)
			if err == nil && bytes.Contains(data, []byte(text)) {
				found = append(found, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}
