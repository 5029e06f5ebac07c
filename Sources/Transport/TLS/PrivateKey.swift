import COpenSSL
import Glibc

/// Owns an OpenSSL key. Keys are immutable once made, and OpenSSL lets threads share them.
final class KeyHandle: @unchecked Sendable {
  let pointer: OpaquePointer
  init(owning pointer: OpaquePointer) { self.pointer = pointer }
  deinit { EVP_PKEY_free(pointer) }

  /// Refuses what is not an elliptic curve of 256 bits or more, or RSA of 2048 or more.
  func checkStrength() throws(CertificateError) {
    let bits = Int(EVP_PKEY_get_bits(pointer))
    if EVP_PKEY_is_a(pointer, "EC") == 1 {
      guard bits >= 256 else { throw .weakKey("an elliptic curve of \(bits) bits; 256 are needed") }
    } else if EVP_PKEY_is_a(pointer, "RSA") == 1 {
      guard bits >= TransportLimits.rsaBitsMin else {
        throw .weakKey("RSA of \(bits) bits; \(TransportLimits.rsaBitsMin) are needed")
      }
    } else {
      throw .weakKey("neither an elliptic curve nor RSA")
    }
  }
}

/// A private key: ECDSA P-256 when it is made here; operators' files may also hold RSA of at least 2048 bits.
public struct PrivateKey: Sendable {
  let handle: KeyHandle

  /// A new P-256 key.
  public static func generate() -> PrivateKey {
    guard let key = cossl_generate_p256() else { preconditionFailure("P-256 is not available in this OpenSSL") }
    return PrivateKey(handle: KeyHandle(owning: key))
  }

  init(handle: KeyHandle) { self.handle = handle }

  /// Reads an unencrypted PEM key.
  public init(pem: [UInt8]) throws(CertificateError) {
    guard pem.count <= TransportLimits.pemBytesMax else {
      throw .tooLarge("the private key file", bytesMax: TransportLimits.pemBytesMax)
    }
    // Without a callback of our own, OpenSSL would ask the terminal for a passphrase.
    let key = PEMFile.withInput(pem) { PEM_read_bio_PrivateKey($0, nil, { _, _, _, _ in -1 }, nil) }
    ERR_clear_error()
    guard let key, let pointer = key else { throw .malformed("the private key") }
    handle = KeyHandle(owning: pointer)
    try handle.checkStrength()
  }

  public init(contentsOf path: String) throws(CertificateError) { try self.init(pem: PEMFile.read(path)) }

  /// Creates a PEM file (PKCS #8) with permission 0600; never replaces one.
  public func store(at path: String) throws(SystemError) {
    let failure = PEMFile.withOutput(of: { PEM_write_bio_PrivateKey($0, handle.pointer, nil, nil, 0, nil, nil) }) {
      bytes -> SystemError? in
      do throws(SystemError) {
        try PEMFile.create(path, bytes)
        return nil
      } catch {
        return error
      }
    }
    guard let failure else { throw SystemError("write \(path)", code: EIO) }
    if let failure { throw failure }
  }

  public var publicKey: PublicKey {
    guard let key = PublicKey(of: handle) else { preconditionFailure("a private key has a public key") }
    return key
  }

  /// An ECDSA (or RSA) signature over SHA-256 of the message, DER-encoded.
  public func sign(_ message: [UInt8]) -> [UInt8] {
    guard let context = EVP_MD_CTX_new() else { preconditionFailure("out of memory") }
    defer { EVP_MD_CTX_free(context) }
    var count = 0
    guard EVP_DigestSignInit(context, nil, SHA256.algorithm, nil, handle.pointer) == 1,
      EVP_DigestSign(context, nil, &count, message, message.count) == 1
    else { preconditionFailure("signing failed: \(OpenSSLErrors.words())") }
    var signature = [UInt8](repeating: 0, count: count)
    let done = EVP_DigestSign(context, &signature, &count, message, message.count)
    precondition(done == 1, "signing failed: \(OpenSSLErrors.words())")
    return Array(signature.prefix(count))
  }
}

/// A public key, compared by its DER form (`SubjectPublicKeyInfo`).
public struct PublicKey: Hashable, Sendable {
  let handle: KeyHandle
  public let der: [UInt8]

  init?(of handle: KeyHandle) {
    var encoded: UnsafeMutablePointer<UInt8>?
    let count = i2d_PUBKEY(handle.pointer, &encoded)
    guard count > 0, let encoded else { return nil }
    self.handle = handle
    der = Array(UnsafeBufferPointer(start: encoded, count: Int(count)))
    CRYPTO_free(encoded, #file, #line)
  }

  /// Reads a DER key; weak and unknown kinds are refused.
  public init(der: [UInt8]) throws(CertificateError) {
    guard der.count <= TransportLimits.certificateBytesMax else {
      throw .tooLarge("the public key", bytesMax: TransportLimits.certificateBytesMax)
    }
    let key = der.withUnsafeBufferPointer { buffer -> OpaquePointer? in
      var start = buffer.baseAddress
      return d2i_PUBKEY(nil, &start, buffer.count)
    }
    ERR_clear_error()
    guard let key else { throw .malformed("the public key") }
    let handle = KeyHandle(owning: key)
    try handle.checkStrength()
    // Encoded again, so bytes after the key or another form of it do not make another key.
    guard let parsed = PublicKey(of: handle), parsed.der == der else { throw .malformed("the public key") }
    self = parsed
  }

  /// Whether the signature over SHA-256 of the message was made with this key's private half.
  public func isValid(_ signature: [UInt8], for message: [UInt8]) -> Bool {
    guard let context = EVP_MD_CTX_new() else { return false }
    defer {
      EVP_MD_CTX_free(context)
      ERR_clear_error()
    }
    return EVP_DigestVerifyInit(context, nil, SHA256.algorithm, nil, handle.pointer) == 1
      && EVP_DigestVerify(context, signature, signature.count, message, message.count) == 1
  }

  public static func == (a: PublicKey, b: PublicKey) -> Bool { a.der == b.der }
  public func hash(into hasher: inout Hasher) { hasher.combine(der) }
}
