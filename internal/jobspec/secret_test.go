package jobspec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSecrets: the variables that are secrets leave the job's own, and nothing
// of them is a part of it.
func TestSecrets(t *testing.T) {
	src := small + "environment_variables:\n  TOKEN: ${{secrets.HF_TOKEN}}\n  SAME: \" ${{ secrets.HF_TOKEN }} \"\n  SEED: 7\n"
	spec, err := Parse("job.yml", []byte(src), Options{Secrets: []string{"HF_TOKEN", "KEY"}, Set: []string{"environment_variables.SET=${{secrets.KEY}}"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"TOKEN": "HF_TOKEN", "SAME": "HF_TOKEN", "SET": "KEY"}, spec.Secrets); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"SEED": "7"}, spec.Job.Env); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestSecretsProblems(t *testing.T) {
	for src, want := range map[string]string{
		"environment_variables: {A: '${{secrets.B}}'}":              "job.yml:6:29: there is no value for secret B",
		"environment_variables: {A: 'x${{secrets.A}}'}":             "a secret has to be all of environment_variables.A",
		"environment_variables: {A: '${{secrets.A}}${{inputs.x}}'}": "a secret has to be all of environment_variables.A",
		"tags: {A: '${{secrets.A}}'}":                               "job.yml:6:12: a secret in tags.A",
		"display_name: 1":                                           "--secret A: no variable of the job is ${{secrets.A}}",
	} {
		_, err := Parse("job.yml", []byte(small+src+"\n"), Options{Secrets: []string{"A"}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", src, err, want)
		}
	}
}
