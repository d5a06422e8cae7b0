package cluster

import (
	"errors"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/trainrelay/trainrelay/protocol"
)

// permanent tells how a refusal of the API server ends an attempt; empty where
// trying again may help.
//
//	400 405 406 413 415 422  the Job itself cannot be accepted        APIRefused
//	403 quota                room may come free                       try again
//	403 namespace ends       and with it all that is in it            NamespaceMissing
//	403 by RBAC              the agent lacks a Role in the namespace  NotPermitted
//	403 else                 admission: policies, webhooks            APIRefused
//	404                      where the namespace is missing, too      NamespaceMissing
//	401 408 409 429 5xx      tokens renew, servers come back          try again
//	no answer                outcome unknown; the name tells later    try again
func permanent(err error) protocol.ReasonCode {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return ""
	}
	message := status.Status().Message
	switch status.Status().Code {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable,
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return protocol.APIRefused
	case http.StatusNotFound:
		return protocol.NamespaceMissing
	case http.StatusForbidden:
		switch {
		case strings.Contains(message, "exceeded quota"):
			return ""
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			return protocol.NamespaceMissing
		case strings.Contains(message, "\" cannot "):
			return protocol.NotPermitted
		}
		return protocol.APIRefused
	}
	return ""
}

// words are the API server's own, without what the agent put around them.
func words(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return status.Status().Message
	}
	return err.Error()
}
