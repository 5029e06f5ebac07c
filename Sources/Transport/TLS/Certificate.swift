import COpenSSL
import Glibc
import Primitives

/// Owns an OpenSSL certificate. Certificates are immutable once made, and OpenSSL lets threads share them.
final class CertificateHandle: @unchecked Sendable {
  let pointer: OpaquePointer
  init(owning pointer: OpaquePointer) { self.pointer = pointer }
  deinit { X509_free(pointer) }
}

/// An X.509 certificate, compared by its bytes. Being parsed says nothing about being trusted.
public struct Certificate: Hashable, Sendable {
  let handle: CertificateHandle
  public let der: [UInt8]
  /// Unix seconds before which it is not valid.
  public let notBefore: Int64
  /// Unix seconds after which it is not valid.
  public let notAfter: Int64
  public let isAuthority: Bool
  /// Subject alternative names of type URI, as the bytes they are.
  public let uris: [[UInt8]]
  /// Subject alternative names of type DNS, as the bytes they are.
  public let dnsNames: [[UInt8]]
  /// Whether it has names of other types: addresses, mail, directory and other names.
  public let hasOtherNames: Bool

  /// Reads one DER certificate of at most `TransportLimits.certificateBytesMax` bytes, with nothing after it.
  public init(der: [UInt8]) throws(CertificateError) {
    guard der.count <= TransportLimits.certificateBytesMax else {
      throw .tooLarge("the certificate", bytesMax: TransportLimits.certificateBytesMax)
    }
    var rest = 0
    let parsed = der.withUnsafeBufferPointer { buffer -> OpaquePointer? in
      var start = buffer.baseAddress
      let certificate = d2i_X509(nil, &start, buffer.count)
      if let start, let base = buffer.baseAddress { rest = buffer.count - (start - base) }
      return certificate
    }
    ERR_clear_error()
    guard let parsed else { throw .malformed("the certificate") }
    let handle = CertificateHandle(owning: parsed)
    guard rest == 0 else { throw .malformed("the certificate") }
    try self.init(handle)
  }

  /// Takes over a certificate of OpenSSL's.
  init(_ handle: CertificateHandle) throws(CertificateError) {
    self.handle = handle
    let pointer = handle.pointer
    var encoded: UnsafeMutablePointer<UInt8>?
    let count = i2d_X509(pointer, &encoded)
    guard count > 0, let encoded else { throw .malformed("the certificate") }
    defer { CRYPTO_free(encoded, #file, #line) }
    guard Int(count) <= TransportLimits.certificateBytesMax else {
      throw .tooLarge("the certificate", bytesMax: TransportLimits.certificateBytesMax)
    }
    der = Array(UnsafeBufferPointer(start: encoded, count: Int(count)))
    guard let from = Self.unixSeconds(X509_get0_notBefore(pointer)), let until = Self.unixSeconds(X509_get0_notAfter(pointer)),
      X509_get_extension_flags(pointer) & UInt32(EXFLAG_INVALID) == 0
    else { throw .malformed("the certificate") }
    notBefore = from
    notAfter = until
    isAuthority = X509_get_extension_flags(pointer) & UInt32(EXFLAG_CA) != 0
    var critical: Int32 = 0
    let names = X509_get_ext_d2i(pointer, NID_subject_alt_name, &critical, nil)
    ERR_clear_error()
    // −1: the extension is absent; without a value, anything else is malformed or there twice.
    guard names != nil || critical == -1 else { throw .malformed("the certificate's subject alternative name") }
    let alternative = AlternativeNames(taking: names.map { OpaquePointer($0) })
    uris = alternative.uris
    dnsNames = alternative.dns
    hasOtherNames = alternative.hasOthers
  }

  /// Every certificate of a PEM text, in order; other blocks are skipped. At least one, at most `max`.
  public static func parse(
    pem: [UInt8], max: Int = TransportLimits.trustBundleCertificatesMax
  ) throws(CertificateError) -> [Certificate] {
    guard pem.count <= TransportLimits.pemBytesMax else {
      throw .tooLarge("the certificate file", bytesMax: TransportLimits.pemBytesMax)
    }
    var handles: [CertificateHandle] = []
    var ended = false
    _ = PEMFile.withInput(pem) { bio in
      while handles.count <= max, let next = PEM_read_bio_X509(bio, nil, { _, _, _, _ in -1 }, nil) {
        handles.append(CertificateHandle(owning: next))
      }
      ended = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE
    }
    ERR_clear_error()
    guard handles.count <= max else { throw .malformed("the certificate file, which has more than \(max) certificates,") }
    guard ended, !handles.isEmpty else { throw .malformed("the certificate file") }
    var certificates: [Certificate] = []
    for handle in handles { certificates.append(try Certificate(handle)) }
    return certificates
  }

  public static func load(_ path: String) throws(CertificateError) -> [Certificate] { try parse(pem: PEMFile.read(path)) }

  public var pem: [UInt8] {
    PEMFile.withOutput(of: { PEM_write_bio_X509($0, handle.pointer) }) { Array($0) } ?? []
  }

  /// The SPIFFE id: exactly one URI name, well formed (X509-SVID §2), beside at most DNS names.
  public func spiffeID() throws(CertificateError) -> SPIFFEID {
    guard !hasOtherNames else { throw .unsupportedName }
    guard let uri = uris.first else { throw .noIdentity }
    guard uris.count == 1 else { throw .severalIdentities(uris.count) }
    return try Self.spiffeID(uri)
  }

  static func spiffeID(_ uri: [UInt8]) throws(CertificateError) -> SPIFFEID {
    guard let text = String(validating: uri, as: UTF8.self) else { throw .malformedIdentity("it is not UTF-8") }
    do throws(NameError) {
      return try SPIFFEID(parsing: text)
    } catch {
      throw .malformedIdentity(error.description)
    }
  }

  /// The serial number's bytes, most significant first.
  public var serial: [UInt8] {
    guard let serial = X509_get0_serialNumber(handle.pointer), let bytes = ASN1_STRING_get0_data(serial) else { return [] }
    return Array(UnsafeBufferPointer(start: bytes, count: Int(ASN1_STRING_length(serial))))
  }

  /// SHA-256 of the DER form.
  public var fingerprint: [UInt8] { SHA256.hash(der) }

  public var subject: String { Self.text(X509_get_subject_name(handle.pointer)) }
  public var issuer: String { Self.text(X509_get_issuer_name(handle.pointer)) }

  /// Its key; weak and unknown kinds are refused.
  public var publicKey: PublicKey {
    get throws(CertificateError) {
      guard let pointer = X509_get_pubkey(handle.pointer) else {
        ERR_clear_error()
        throw .malformed("the certificate's key")
      }
      let key = KeyHandle(owning: pointer)
      try key.checkStrength()
      guard let key = PublicKey(of: key) else { throw .malformed("the certificate's key") }
      return key
    }
  }

  public static func == (a: Certificate, b: Certificate) -> Bool { a.der == b.der }
  public func hash(into hasher: inout Hasher) { hasher.combine(der) }

  private static func unixSeconds(_ time: UnsafePointer<ASN1_TIME>?) -> Int64? {
    var broken = tm()
    guard let time, ASN1_TIME_to_tm(time, &broken) == 1 else { return nil }
    return Int64(timegm(&broken))
  }

  private static func text(_ name: OpaquePointer?) -> String {
    PEMFile.withOutput(of: { cossl_print_name($0, name) }) { String(decoding: $0, as: UTF8.self) } ?? ""
  }
}

/// The names of a subject alternative name extension, copied out of OpenSSL.
struct AlternativeNames {
  private(set) var uris: [[UInt8]] = []
  private(set) var dns: [[UInt8]] = []
  private(set) var hasOthers = false

  /// Frees what it is given.
  init(taking names: OpaquePointer?) {
    guard let names else { return }
    defer { cossl_names_free(names) }
    for index in 0..<cossl_name_count(names) {
      var count: Int32 = 0
      guard let name = cossl_name_at(names, index), let bytes = cossl_name_bytes(name, &count) else {
        hasOthers = true
        continue
      }
      let value = Array(UnsafeBufferPointer(start: bytes, count: Int(count)))
      if cossl_name_is_uri(name) == 1 { uris.append(value) } else { dns.append(value) }
    }
  }
}
