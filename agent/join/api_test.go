package join

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

const secretName = "trainrelay-agent"

// api is the one Secret of an API server, at the wire: get, and update by
// compare-and-set. Faults are what crashes and other pods do.
type api struct {
	t      *testing.T
	server *httptest.Server

	mu      sync.Mutex
	secret  *corev1.Secret // nil for none
	version int
	updates int
	// before is called before the n-th update, from 1, is looked at; a status
	// that it returns is the answer.
	before func(n int) int
}

func newAPI(t *testing.T) *api {
	a := &api{t: t, secret: &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: secretName, Namespace: "azureml"},
	}}
	a.server = httptest.NewServer(a)
	t.Cleanup(a.server.Close)
	return a
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/api/v1/namespaces/azureml/secrets/"+secretName {
		a.fail(w, http.StatusForbidden, metav1.StatusReasonForbidden)
		return
	}
	switch r.Method {
	case http.MethodGet:
		a.mu.Lock()
		defer a.mu.Unlock()
		a.answer(w)
	case http.MethodPut:
		a.put(w, r)
	default:
		a.fail(w, http.StatusForbidden, metav1.StatusReasonForbidden)
	}
}

func (a *api) put(w http.ResponseWriter, r *http.Request) {
	var secret corev1.Secret
	if err := json.NewDecoder(r.Body).Decode(&secret); err != nil {
		a.t.Errorf("update: %v", err)
	}
	a.mu.Lock()
	a.updates++
	n, before := a.updates, a.before
	a.mu.Unlock()
	if before != nil {
		if status := before(n); status != 0 {
			a.fail(w, status, metav1.StatusReasonInternalError)
			return
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.secret == nil {
		a.answer(w)
		return
	}
	if secret.ResourceVersion != a.secret.ResourceVersion {
		a.fail(w, http.StatusConflict, metav1.StatusReasonConflict)
		return
	}
	a.store(&secret)
	a.answer(w)
}

func (a *api) store(secret *corev1.Secret) {
	a.version++
	secret.ResourceVersion = fmt.Sprint(a.version)
	a.secret = secret
}

func (a *api) answer(w http.ResponseWriter) {
	if a.secret == nil {
		a.fail(w, http.StatusNotFound, metav1.StatusReasonNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a.secret)
}

func (a *api) fail(w http.ResponseWriter, status int, reason metav1.StatusReason) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Reason: reason, Code: int32(status), Message: "as the test wants",
	})
}

// data is a key of the Secret.
func (a *api) data(key string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return string(a.secret.Data[key])
}

// set replaces the Secret's data, as somebody else would.
func (a *api) set(data map[string][]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	secret := a.secret.DeepCopy()
	secret.Data = data
	a.store(secret)
}

func (a *api) secrets() typed.SecretInterface {
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: a.server.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}, QPS: 1000, Burst: 1000,
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return client.CoreV1().Secrets("azureml")
}

// holds fails the test where the Secret lacks what a cluster that has joined
// has, or has more.
func (a *api) holds(c Credentials) {
	a.t.Helper()
	if got := a.data(credentialsKey); !strings.Contains(got, c.Seed) || a.data(pendingKey) != "" {
		a.t.Errorf("the Secret does not hold the credentials, or still a join under way")
	}
}
