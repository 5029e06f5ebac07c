// OpenSSL's own headers, and functions for those of its macros that Swift cannot see.
#ifndef COPENSSL_SHIM_H
#define COPENSSL_SHIM_H

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

static inline EVP_PKEY *cossl_generate_p256(void) { return EVP_EC_gen("P-256"); }

static inline long cossl_bio_bytes(BIO *bio, char **bytes) { return BIO_get_mem_data(bio, bytes); }

static inline long cossl_set_min_version(SSL_CTX *ctx, int version) { return SSL_CTX_set_min_proto_version(ctx, version); }
static inline long cossl_set_session_min_version(SSL *ssl, int version) { return SSL_set_min_proto_version(ssl, version); }
static inline void cossl_set_peer_chain_bytes(SSL_CTX *ctx, long max) { SSL_CTX_set_max_cert_list(ctx, max); }
static inline long cossl_set_max_version(SSL_CTX *ctx, int version) { return SSL_CTX_set_max_proto_version(ctx, version); }
static inline long cossl_set_session_max_version(SSL *ssl, int version) { return SSL_set_max_proto_version(ssl, version); }
typedef int (*cossl_ticket_key_callback)(SSL *, unsigned char *, unsigned char *, EVP_CIPHER_CTX *, EVP_MAC_CTX *, int);
/// Stateless tickets, so many a connection, for so many seconds; clients without tickets (TLS 1.2) share so many places.
static inline void cossl_allow_resumption(
    SSL_CTX *ctx, size_t tickets, long seconds, long places, cossl_ticket_key_callback keys,
    SSL_CTX_decrypt_session_ticket_fn judge) {
  SSL_CTX_clear_options(ctx, SSL_OP_NO_TICKET);
  SSL_CTX_set_num_tickets(ctx, tickets);
  SSL_CTX_set_timeout(ctx, seconds);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_SERVER);
  SSL_CTX_sess_set_cache_size(ctx, places);
  SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, keys);
  SSL_CTX_set_session_ticket_cb(ctx, NULL, judge, NULL);
}
/// A ticket is sealed (1) or opened (0) with AES-256-CBC under HMAC-SHA-256 (RFC 5077 4).
static inline int cossl_use_ticket_key(
    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, const unsigned char *iv, const unsigned char *cipherKey,
    const unsigned char *macKey, int seals) {
  OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)macKey, 32),
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, "SHA256", 0), OSSL_PARAM_construct_end()};
  return EVP_MAC_CTX_set_params(mac, parameters) && EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, cipherKey, iv, seals);
}
static inline void cossl_set_session_tickets(SSL *ssl, size_t count) {
  if (count) SSL_clear_options(ssl, SSL_OP_NO_TICKET);
  else SSL_set_options(ssl, SSL_OP_NO_TICKET);
  SSL_set_num_tickets(ssl, count);
}
/// Sessions go to `keep` and nowhere else.
static inline void cossl_remember_sessions(SSL_CTX *ctx, int (*keep)(SSL *, SSL_SESSION *)) {
  SSL_CTX_clear_options(ctx, SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(ctx, keep);
}
/// No resumption, tickets, renegotiation or compression; writes may be partial and repeated from another address, and the
/// buffers of a silent connection are given back.
static inline void cossl_harden(SSL_CTX *ctx) {
  SSL_CTX_set_options(
      ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_num_tickets(ctx, 0);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(ctx, 1);
}
static inline long cossl_add_chain_certificate(SSL_CTX *ctx, X509 *certificate) {
  return SSL_CTX_add1_chain_cert(ctx, certificate);
}
static inline long cossl_set_server_name(SSL *ssl, const char *name) { return SSL_set_tlsext_host_name(ssl, name); }
static inline long cossl_set_groups(SSL_CTX *ctx, const char *list) { return SSL_CTX_set1_groups_list(ctx, list); }
static inline long cossl_set_session_groups(SSL *ssl, const char *list) { return SSL_set1_groups_list(ssl, list); }

static inline int cossl_certificate_count(const STACK_OF(X509) *stack) { return stack ? sk_X509_num(stack) : 0; }
static inline X509 *cossl_certificate_at(const STACK_OF(X509) *stack, int index) { return sk_X509_value(stack, index); }
static inline STACK_OF(X509) *cossl_certificates(void) { return sk_X509_new_null(); }
static inline int cossl_certificates_push(STACK_OF(X509) *stack, X509 *certificate) {
  return X509_up_ref(certificate) && sk_X509_push(stack, certificate) > 0;
}
static inline void cossl_certificates_free(STACK_OF(X509) *stack) { sk_X509_pop_free(stack, X509_free); }

static inline int cossl_name_count(const GENERAL_NAMES *names) { return names ? sk_GENERAL_NAME_num(names) : 0; }
static inline GENERAL_NAME *cossl_name_at(const GENERAL_NAMES *names, int index) {
  return sk_GENERAL_NAME_value(names, index);
}
/// The bytes of a URI or DNS name (they may hold NUL), or null for a name of another type.
static inline const unsigned char *cossl_name_bytes(const GENERAL_NAME *name, int *length) {
  if (name->type != GEN_URI && name->type != GEN_DNS) return NULL;
  *length = ASN1_STRING_length(name->d.ia5);
  return ASN1_STRING_get0_data(name->d.ia5);
}
static inline int cossl_name_type(const GENERAL_NAME *name) { return name->type; }
// Of an address, its bytes in network order; of a mail address, its text.
static inline const unsigned char *cossl_other_name_bytes(const GENERAL_NAME *name, int *length) {
  if (name->type != GEN_IPADD && name->type != GEN_EMAIL) return NULL;
  const ASN1_STRING *value = name->type == GEN_IPADD ? name->d.iPAddress : name->d.rfc822Name;
  *length = ASN1_STRING_length(value);
  return ASN1_STRING_get0_data(value);
}
static inline const char *cossl_group_name(SSL *ssl) { return SSL_group_to_name(ssl, SSL_get_negotiated_group(ssl)); }
static inline int cossl_name_is_uri(const GENERAL_NAME *name) { return name->type == GEN_URI; }
static inline int cossl_print_name(BIO *bio, const X509_NAME *name) {
  return X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0;
}
static inline void cossl_names_free(GENERAL_NAMES *names) { GENERAL_NAMES_free(names); }

static inline GENERAL_NAMES *cossl_request_names(X509_REQ *request, int *authority, int *valid) {
  STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(request);
  int critical = 0;
  *authority = 0;
  *valid = 1;
  if (!extensions) return NULL;
  BASIC_CONSTRAINTS *constraints = X509V3_get_d2i(extensions, NID_basic_constraints, &critical, NULL);
  if (constraints) *authority = constraints->ca;
  else if (critical != -1) *valid = 0;
  BASIC_CONSTRAINTS_free(constraints);
  GENERAL_NAMES *names = X509V3_get_d2i(extensions, NID_subject_alt_name, &critical, NULL);
  if (!names && critical != -1) *valid = 0;
  sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
  return names;
}
static inline int cossl_request_add_extension(X509_REQ *request, X509_EXTENSION *extension) {
  STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();
  int done = extensions && sk_X509_EXTENSION_push(extensions, extension) > 0 && X509_REQ_add_extensions(request, extensions);
  sk_X509_EXTENSION_free(extensions);
  return done;
}

static inline int cossl_aead_set_nonce_length(EVP_CIPHER_CTX *ctx, int length) {
  return EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, length, NULL);
}
static inline int cossl_aead_get_tag(EVP_CIPHER_CTX *ctx, void *tag, int length) {
  return EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, length, tag);
}
static inline int cossl_aead_set_tag(EVP_CIPHER_CTX *ctx, const void *tag, int length) {
  return EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, length, (void *)tag);
}

#endif
