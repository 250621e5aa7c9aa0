/// OpenSSL 3.0, and as functions the macros of it that Swift cannot see.
#ifndef COPENSSL_SHIM_H
#define COPENSSL_SHIM_H

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <time.h>

// The library ---------------------------------------------------------------------------------------------------------

/// Starts OpenSSL so that it does not clean up at exit, when other threads may still use it.
static inline int copenssl_start(void) {
    return OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT | OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS,
                            NULL);
}

static inline int copenssl_error_library(unsigned long code) { return ERR_GET_LIB(code); }
static inline int copenssl_error_reason(unsigned long code) { return ERR_GET_REASON(code); }
static inline void copenssl_free(void *memory) { OPENSSL_free(memory); }

/// Seconds since 1970, as sessions and certificates count time.
static inline int64_t copenssl_now(void) { return (int64_t)time(NULL); }

// Contexts ------------------------------------------------------------------------------------------------------------

/// Refuses compression and renegotiation. An end of input without close_notify stays an error.
static inline void copenssl_ctx_set_options(SSL_CTX *context) {
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_clear_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
    // A server's order of suites counts, but for clients that prefer ChaCha20 because they have no AES in hardware.
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    // No chain is looked for at each handshake: what was given is what is shown.
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
}

static inline void copenssl_ctx_disable_tickets(SSL_CTX *context) {
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(context, 0);
}

static inline int copenssl_ctx_set_versions(SSL_CTX *context, int minimum, int maximum) {
    return SSL_CTX_set_min_proto_version(context, minimum) && SSL_CTX_set_max_proto_version(context, maximum);
}

static inline void copenssl_ctx_set_session_cache_mode(SSL_CTX *context, long mode) {
    SSL_CTX_set_session_cache_mode(context, mode);
}

static inline int copenssl_ctx_add_chain_certificate(SSL_CTX *context, X509 *certificate) {
    return (int)SSL_CTX_add1_chain_cert(context, certificate);
}

static inline void copenssl_ctx_set_server_name_callback(SSL_CTX *context, int (*callback)(SSL *, int *, void *)) {
    SSL_CTX_set_tlsext_servername_callback(context, callback);
}

static const long copenssl_session_cache_client = SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL;
static const long copenssl_session_cache_off = SSL_SESS_CACHE_OFF;

// Sessions ------------------------------------------------------------------------------------------------------------

static inline int copenssl_set_server_name(SSL *session, const char *name) {
    return (int)SSL_set_tlsext_host_name(session, name);
}

static inline int copenssl_set_max_version(SSL *session, int version) {
    return (int)SSL_set_max_proto_version(session, version);
}

static inline int copenssl_set_min_version(SSL *session, int version) {
    return (int)SSL_set_min_proto_version(session, version);
}

/// For tests: the session asks its peer to renegotiate when it is told to.
static inline void copenssl_allow_renegotiation(SSL *session) {
    SSL_clear_options(session, SSL_OP_NO_RENEGOTIATION);
}

static inline int copenssl_set_retry_verify(SSL *session) { return (int)SSL_set_retry_verify(session); }

// BIO -----------------------------------------------------------------------------------------------------------------

static inline void copenssl_bio_clear_retry(BIO *bio) { BIO_clear_retry_flags(bio); }
static inline void copenssl_bio_retry_read(BIO *bio) { BIO_set_retry_read(bio); }
static inline long copenssl_bio_memory(BIO *bio, char **bytes) { return BIO_get_mem_data(bio, bytes); }

// Tickets -------------------------------------------------------------------------------------------------------------

/// Sets up cipher and authentication of a ticket: AES-256-CBC and HMAC-SHA-256 (RFC 5077 §4), each with half of the
/// 64 bytes.
static inline int copenssl_ticket_prepare(EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *authentication, const void *secret,
                                          const unsigned char *initial_vector, int encrypts) {
    const unsigned char *key = (const unsigned char *)secret;
    OSSL_PARAM digest[] = {OSSL_PARAM_construct_utf8_string("digest", (char *)"SHA256", 0),
                           OSSL_PARAM_construct_end()};
    return EVP_CipherInit_ex2(cipher, EVP_aes_256_cbc(), key, initial_vector, encrypts, NULL) &&
           EVP_MAC_init(authentication, key + 32, 32, digest);
}

// Certificates --------------------------------------------------------------------------------------------------------

static inline int copenssl_certificate_count(const STACK_OF(X509) *list) { return sk_X509_num(list); }
static inline X509 *copenssl_certificate(const STACK_OF(X509) *list, int index) { return sk_X509_value(list, index); }
static inline void copenssl_certificates_free(STACK_OF(X509) *list) { sk_X509_pop_free(list, X509_free); }

/// Reads the certificates of a PEM text up to the first error, which the end of the text is as well.
static inline STACK_OF(X509) *copenssl_certificates_read(BIO *input) {
    STACK_OF(X509) *list = sk_X509_new_null();
    X509 *certificate;
    while (list != NULL && (certificate = PEM_read_bio_X509(input, NULL, NULL, NULL)) != NULL) {
        if (sk_X509_push(list, certificate) <= 0) {
            X509_free(certificate);
            break;
        }
    }
    return list;
}

/// Takes the first certificate out of a list; NULL if there is none.
static inline X509 *copenssl_certificate_take_first(STACK_OF(X509) *list) { return sk_X509_shift(list); }

/// Adds to a list the certificates of another.
static inline int copenssl_certificates_append(STACK_OF(X509) *list, const STACK_OF(X509) *others) {
    return X509_add_certs(list, (STACK_OF(X509) *)others, X509_ADD_FLAG_UP_REF);
}

/// Of the certificates in `others`, which is freed, those that lead upward from `certificate`, in this order and
/// without a self-signed one at the end, which a peer has to know by itself. NULL without memory.
static inline STACK_OF(X509) *copenssl_certificates_in_order(X509 *certificate, STACK_OF(X509) *others) {
    STACK_OF(X509) *list = sk_X509_new_null();
    int index = 0;
    while (list != NULL && index < sk_X509_num(others)) {
        X509 *issuer = sk_X509_value(others, index++);
        if (X509_check_issued(issuer, certificate) != X509_V_OK || X509_self_signed(issuer, 0) == 1) continue;
        if (sk_X509_push(list, issuer) <= 0) break;
        certificate = sk_X509_delete(others, index - 1);
        index = 0;
    }
    sk_X509_pop_free(others, X509_free);
    return list;
}

/// The subjects of the certificates, which a server names to a client that it asks for one. NULL without memory.
static inline STACK_OF(X509_NAME) *copenssl_names_new(void) { return sk_X509_NAME_new_null(); }
static inline int copenssl_names_add(STACK_OF(X509_NAME) *names, X509 *certificate) {
    X509_NAME *name = X509_NAME_dup(X509_get_subject_name(certificate));
    if (name == NULL) return 0;
    if (sk_X509_NAME_push(names, name) > 0) return 1;
    X509_NAME_free(name);
    return 0;
}
static inline void copenssl_names_free(STACK_OF(X509_NAME) *names) { sk_X509_NAME_pop_free(names, X509_NAME_free); }

/// RFC 4514, but with UTF-8 as it is.
static const unsigned long copenssl_name_format = XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB;

/// The subject alternative names of a certificate; NULL if it has none.
static inline GENERAL_NAMES *copenssl_alternative_names(const X509 *certificate) {
    return (GENERAL_NAMES *)X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
}
static inline int copenssl_alternative_name_count(const GENERAL_NAMES *names) { return sk_GENERAL_NAME_num(names); }

/// The kind of one name (GEN_DNS, GEN_IPADD, GEN_URI, GEN_EMAIL or another), and for those four its bytes.
static inline int copenssl_alternative_name(const GENERAL_NAMES *names, int index, const unsigned char **bytes,
                                            int *count) {
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, index);
    *bytes = NULL;
    *count = 0;
    switch (name->type) {
    case GEN_DNS:
    case GEN_URI:
    case GEN_EMAIL:
    case GEN_IPADD:
        // All four are ASN1_STRING.
        *bytes = ASN1_STRING_get0_data(name->d.ia5);
        *count = ASN1_STRING_length(name->d.ia5);
        break;
    }
    return name->type;
}
static inline void copenssl_alternative_names_free(GENERAL_NAMES *names) { GENERAL_NAMES_free(names); }

static const int copenssl_name_dns = GEN_DNS;
static const int copenssl_name_email = GEN_EMAIL;
static const int copenssl_name_ip = GEN_IPADD;
static const int copenssl_name_uri = GEN_URI;

// Cipher suites -------------------------------------------------------------------------------------------------------

static inline int copenssl_cipher_count(const STACK_OF(SSL_CIPHER) *list) { return sk_SSL_CIPHER_num(list); }
static inline const SSL_CIPHER *copenssl_cipher(const STACK_OF(SSL_CIPHER) *list, int index) {
    return sk_SSL_CIPHER_value(list, index);
}

/// Whether HTTP/2 allows the suite: an AEAD with ephemeral keys, between peers that show who they are (RFC 9113 §9.2.2
/// and appendix A, which lists the anonymous suites too).
static inline int copenssl_cipher_is_allowed(const SSL_CIPHER *cipher) {
    int exchange = SSL_CIPHER_get_kx_nid(cipher);
    int is_ephemeral = exchange == NID_kx_ecdhe || exchange == NID_kx_dhe || exchange == NID_kx_any;
    int is_anonymous = SSL_CIPHER_get_auth_nid(cipher) == NID_auth_null;
    return SSL_CIPHER_is_aead(cipher) && is_ephemeral && !is_anonymous;
}

#endif
