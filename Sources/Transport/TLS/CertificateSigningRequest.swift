import COpenSSL
import Primitives

/// A PKCS #10 request for a certificate (RFC 2986). What it asks for gives no right to it: the signer decides.
public struct CertificateSigningRequest: Sendable {
  public let der: [UInt8]
  /// The key to certify; whoever made the request holds its private half.
  public let publicKey: PublicKey
  /// The SPIFFE id asked for, or nil when the request leaves it to the signer.
  public let requestedIdentity: SPIFFEID?

  /// Makes a request with an empty subject, which may name the identity wished for.
  public static func make(key: PrivateKey, identity: SPIFFEID? = nil) throws(CertificateError) -> CertificateSigningRequest {
    guard let request = X509_REQ_new() else { throw .refused("out of memory") }
    defer { X509_REQ_free(request) }
    var done = X509_REQ_set_version(request, 0) & X509_REQ_set_pubkey(request, key.handle.pointer)
    if let identity {
      let name = X509V3_EXT_conf_nid(nil, nil, NID_subject_alt_name, "critical,URI:\(identity)")
      done &= cossl_request_add_extension(request, name)
      X509_EXTENSION_free(name)
    }
    guard done == 1, X509_REQ_sign(request, key.handle.pointer, SHA256.algorithm) > 0 else {
      throw .refused(OpenSSLErrors.words())
    }
    var encoded: UnsafeMutablePointer<UInt8>?
    let count = i2d_X509_REQ(request, &encoded)
    guard count > 0, let encoded else { throw .refused(OpenSSLErrors.words()) }
    defer { CRYPTO_free(encoded, #file, #line) }
    return try CertificateSigningRequest(der: Array(UnsafeBufferPointer(start: encoded, count: Int(count))))
  }

  /// Reads a request and checks its signature (proof of possession), the strength of its key, and that it asks neither to
  /// be an authority nor for several names or names that are not SPIFFE ids.
  public init(der: [UInt8]) throws(CertificateError) {
    guard der.count <= TransportLimits.certificateRequestBytesMax else {
      throw .tooLarge("the certificate request", bytesMax: TransportLimits.certificateRequestBytesMax)
    }
    var rest = 0
    let parsed = der.withUnsafeBufferPointer { buffer -> OpaquePointer? in
      var start = buffer.baseAddress
      let request = d2i_X509_REQ(nil, &start, buffer.count)
      if let start, let base = buffer.baseAddress { rest = buffer.count - (start - base) }
      return request
    }
    defer { ERR_clear_error() }
    guard let request = parsed else { throw .malformed("the certificate request") }
    defer { X509_REQ_free(request) }
    guard rest == 0, let pointer = X509_REQ_get_pubkey(request) else { throw .malformed("the certificate request") }
    let key = KeyHandle(owning: pointer)
    try key.checkStrength()
    guard X509_REQ_verify(request, pointer) == 1 else { throw .badSignature }
    guard let publicKey = PublicKey(of: key) else { throw .malformed("the certificate request") }
    self.der = der
    self.publicKey = publicKey
    requestedIdentity = try Self.identity(of: request)
  }

  private static func identity(of request: OpaquePointer) throws(CertificateError) -> SPIFFEID? {
    var authority: Int32 = 0
    var valid: Int32 = 0
    let names = AlternativeNames(taking: cossl_request_names(request, &authority, &valid))
    guard valid == 1 else { throw .malformed("the certificate request") }
    guard authority == 0 else { throw .authorityAsLeaf }
    guard names.dns.isEmpty, !names.hasOthers else { throw .unsupportedName }
    guard names.uris.count <= 1 else { throw .severalIdentities(names.uris.count) }
    guard let uri = names.uris.first else { return nil }
    return try Certificate.spiffeID(uri)
  }
}
