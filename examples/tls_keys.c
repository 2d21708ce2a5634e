// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * The keys of a TLS connection, from OpenSSL to the kernel. OpenSSL hands them over by itself (SSL_OP_ENABLE_KTLS), both
 * directions of TLS 1.2; of TLS 1.3 versions before 3.2 hand over the sending ones alone. There the receiving ones are made
 * here, out of the secret that a program may have for its logs.
 */
#include <errno.h>
#include <linux/tls.h>
#include <netinet/tcp.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <stdio.h>
#include <string.h>

#include "tls_relay.h"

#define LABEL		"CLIENT_TRAFFIC_SECRET_0 "
#define RANDOM_DIGITS	64		/* the client's random number, in hexadecimal */
#define IV_LEN		12

/* Those that kernels have, the quick ones first. */
#define CIPHERS_13	"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define CIPHERS_12	"ECDHE+AESGCM:ECDHE+CHACHA20"

/* "CLIENT_TRAFFIC_SECRET_0 RANDOM SECRET": a line of the log that SSLKEYLOGFILE is for. */
static void keep_secret(const SSL *ssl, const char *line)
{
	struct client *c = SSL_get_app_data(ssl);
	const size_t before = strlen(LABEL) + RANDOM_DIGITS + 1;

	if (strncmp(line, LABEL, strlen(LABEL)) || strlen(line) < before)
		return;
	if (!OPENSSL_hexstr2buf_ex(c->secret, sizeof(c->secret), &c->secret_len, line + before, '\0'))
		c->secret_len = 0;
}

SSL_CTX *tls_open(const char *certificate, const char *key)
{
	SSL_CTX *tls = SSL_CTX_new(TLS_server_method());

	if (tls && SSL_CTX_use_certificate_chain_file(tls, certificate) == 1 &&
	    SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) == 1 &&
	    SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION) == 1 &&
	    SSL_CTX_set_ciphersuites(tls, CIPHERS_13) == 1 && SSL_CTX_set_cipher_list(tls, CIPHERS_12) == 1) {
		SSL_CTX_set_options(tls, SSL_OP_ENABLE_KTLS | SSL_OP_CIPHER_SERVER_PREFERENCE);
		SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);	/* sessions are resumed by ticket */
		SSL_CTX_set_keylog_callback(tls, keep_secret);
		return tls;
	}
	fprintf(stderr, "%s, %s: %s\n", certificate, key, ERR_reason_error_string(ERR_peek_last_error()) ?: "no TLS");
	SSL_CTX_free(tls);
	return NULL;
}

/* HKDF-Expand-Label of RFC 8446, 7.1, with an empty context. */
static bool expand(const struct client *c, const char *digest, const char *label, unsigned char *out, size_t len)
{
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY, ok;
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS13-KDF", NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)digest, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)c->secret, c->secret_len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, (void *)"tls13 ", 6),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, (void *)label, strlen(label)),
		OSSL_PARAM_construct_end(),
	};

	ok = ctx ? EVP_KDF_derive(ctx, out, len, params) : 0;
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return ok == 1;
}

/* The forms in which the kernel wants the same: 12 bytes of initialisation vector, a key, the number of the next record. */
union receiving {
	struct tls_crypto_info info;
	struct tls12_crypto_info_aes_gcm_128 aes128;
	struct tls12_crypto_info_aes_gcm_256 aes256;
	struct tls12_crypto_info_chacha20_poly1305 chacha;
};

struct form {
	uint32_t cipher;
	uint16_t type;
	size_t size, key_len, salt_len;
	size_t salt, iv, key;			/* where they are */
};

#define FORM(cipher, type, name)								\
	{ cipher, type, sizeof(struct name), sizeof(((struct name *)0)->key),			\
	  sizeof(((struct name *)0)->salt),							\
	  offsetof(struct name, salt), offsetof(struct name, iv), offsetof(struct name, key) }

static const struct form forms[] = {
	FORM(TLS1_3_CK_AES_128_GCM_SHA256, TLS_CIPHER_AES_GCM_128, tls12_crypto_info_aes_gcm_128),
	FORM(TLS1_3_CK_AES_256_GCM_SHA384, TLS_CIPHER_AES_GCM_256, tls12_crypto_info_aes_gcm_256),
	FORM(TLS1_3_CK_CHACHA20_POLY1305_SHA256, TLS_CIPHER_CHACHA20_POLY1305, tls12_crypto_info_chacha20_poly1305),
};

static const struct form *form_of(const SSL_CIPHER *cipher)
{
	size_t i;

	for (i = 0; i < sizeof(forms) / sizeof(*forms); i++)
		if (SSL_CIPHER_get_id(cipher) == forms[i].cipher)
			return &forms[i];
	return NULL;
}

/* OpenSSL has read the client's Finished and no byte after it, so that the next record is number 0 of these keys. */
static const char *receive_here(struct client *c)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(c->ssl);
	const EVP_MD *digest = SSL_CIPHER_get_handshake_digest(cipher);
	const struct form *f = form_of(cipher);
	union receiving r;
	unsigned char *to = (unsigned char *)&r, iv[IV_LEN];
	int error;

	if (!f || !digest || !c->secret_len)
		return "OpenSSL does not say with which keys the client sends";
	if (SSL_has_pending(c->ssl))
		return "OpenSSL has read more than the handshake";
	memset(&r, 0, sizeof(r));
	r.info.version = TLS_1_3_VERSION;
	r.info.cipher_type = f->type;
	if (!expand(c, EVP_MD_get0_name(digest), "key", to + f->key, f->key_len) ||
	    !expand(c, EVP_MD_get0_name(digest), "iv", iv, sizeof(iv)))
		return "the client's keys cannot be made";
	memcpy(to + f->salt, iv, f->salt_len);
	memcpy(to + f->iv, iv + f->salt_len, sizeof(iv) - f->salt_len);
	error = setsockopt(c->fd, SOL_TLS, TLS_RX, &r, (socklen_t)f->size);
	OPENSSL_cleanse(&r, sizeof(r));
	OPENSSL_cleanse(iv, sizeof(iv));
	return error ? "the kernel does not receive with this cipher" : NULL;
}

const char *keys_to_kernel(struct client *c)
{
	if (!BIO_get_ktls_send(SSL_get_wbio(c->ssl)))
		return "the kernel does not send with this cipher";
	if (BIO_get_ktls_recv(SSL_get_rbio(c->ssl)))
		return NULL;
	return SSL_version(c->ssl) == TLS1_3_VERSION ? receive_here(c) : "the kernel does not receive with this cipher";
}
