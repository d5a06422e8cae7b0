package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// backdate makes new certificates good on machines whose clock is behind.
const backdate = time.Hour

// newAuthority makes an authority.
func newAuthority(now time.Time) (tls.Certificate, error) {
	return sign(nil, &x509.Certificate{
		Subject:               pkix.Name{CommonName: "trainrelay authority"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(authorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // it signs servers, no further authorities
		KeyUsage:              x509.KeyUsageCertSign,
	})
}

// issue makes a server's certificate for the hosts.
func issue(authority tls.Certificate, hosts []string, now time.Time) (tls.Certificate, error) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "trainrelay"},
		NotBefore:   now.Add(-backdate),
		NotAfter:    now.Add(serverLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if validName(host) {
			template.DNSNames = append(template.DNSNames, host)
		} else {
			return tls.Certificate{}, fmt.Errorf("host %q is neither a DNS name nor an IP address; a port does not belong to it", host)
		}
	}
	return sign(&authority, template)
}

// sign makes a key and its certificate, signed by the authority or, where that
// is nil, by itself.
func sign(authority *tls.Certificate, template *x509.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	parent, signer := template, any(key)
	if authority != nil {
		parent, signer = authority.Leaf, authority.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// save writes a certificate and its key as PEM, each whole or not at all. The
// key goes first: a certificate without its key would never be made anew.
func save(certFile, keyFile string, cert tls.Certificate) error {
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return err
	}
	return errors.Join(
		write(keyFile, 0o600, &pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		write(certFile, 0o644, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}),
	)
}

func write(file string, perm os.FileMode, block *pem.Block) error {
	tmp := file + ".new"
	if err := os.WriteFile(tmp, pem.EncodeToMemory(block), perm); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}
