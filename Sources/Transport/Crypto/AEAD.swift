import COpenSSL

/// AES-256-GCM (NIST SP 800-38D) under one key, with its two contexts kept for reuse: not for several threads at once.
///
/// The caller chooses nonces and must never use one twice under a key. Random 96-bit nonces are good for 2^32 messages.
public final class AEAD {
  public static let keyBytes = 32
  public static let nonceBytes = 12
  public static let tagBytes = 16

  private let sealing: OpaquePointer
  private let opening: OpaquePointer
  nonisolated(unsafe) private static let cipher: OpaquePointer? = EVP_CIPHER_fetch(nil, "AES-256-GCM", nil)

  /// `key` has 32 bytes.
  public init(key: [UInt8]) {
    precondition(key.count == Self.keyBytes, "an AES-256 key has 32 bytes")
    guard let sealing = EVP_CIPHER_CTX_new(), let opening = EVP_CIPHER_CTX_new(),
      EVP_EncryptInit_ex2(sealing, Self.cipher, key, nil, nil) == 1,
      EVP_DecryptInit_ex2(opening, Self.cipher, key, nil, nil) == 1
    else { preconditionFailure("AES-256-GCM is not available in this OpenSSL") }
    self.sealing = sealing
    self.opening = opening
  }

  deinit {
    EVP_CIPHER_CTX_free(sealing)
    EVP_CIPHER_CTX_free(opening)
  }

  /// The ciphertext followed by the tag. `authenticated` is covered by the tag and not part of the result.
  public func seal(_ plaintext: ArraySlice<UInt8>, nonce: [UInt8], authenticating authenticated: [UInt8] = []) -> [UInt8] {
    precondition(nonce.count == Self.nonceBytes, "a GCM nonce has 12 bytes")
    var length: Int32 = 0
    var done = EVP_EncryptInit_ex2(sealing, nil, nil, nonce, nil)
    if !authenticated.isEmpty {
      done &= EVP_EncryptUpdate(sealing, nil, &length, authenticated, Int32(authenticated.count))
    }
    let sealed = [UInt8](unsafeUninitializedCapacity: plaintext.count + Self.tagBytes) { buffer, count in
      guard let output = buffer.baseAddress else { return }
      plaintext.withUnsafeBufferPointer { input in
        if !input.isEmpty { done &= EVP_EncryptUpdate(sealing, output, &length, input.baseAddress, Int32(input.count)) }
      }
      done &= EVP_EncryptFinal_ex(sealing, output + plaintext.count, &length)
      done &= cossl_aead_get_tag(sealing, output + plaintext.count, Int32(Self.tagBytes))
      count = buffer.count
    }
    precondition(done == 1, "AES-256-GCM failed to seal")
    return sealed
  }

  public func seal(_ plaintext: [UInt8], nonce: [UInt8], authenticating authenticated: [UInt8] = []) -> [UInt8] {
    seal(plaintext[...], nonce: nonce, authenticating: authenticated)
  }

  /// The plaintext, or nil when anything was changed, the key is another, or it is too short.
  public func open(_ sealed: ArraySlice<UInt8>, nonce: ArraySlice<UInt8>, authenticating authenticated: [UInt8] = [])
    -> [UInt8]?
  {
    guard nonce.count == Self.nonceBytes, sealed.count >= Self.tagBytes else { return nil }
    let textBytes = sealed.count - Self.tagBytes
    var length: Int32 = 0
    var done = nonce.withUnsafeBufferPointer { EVP_DecryptInit_ex2(opening, nil, nil, $0.baseAddress, nil) }
    if !authenticated.isEmpty {
      done &= EVP_DecryptUpdate(opening, nil, &length, authenticated, Int32(authenticated.count))
    }
    let plaintext = [UInt8](unsafeUninitializedCapacity: max(textBytes, 1)) { buffer, count in
      sealed.withUnsafeBufferPointer { input in
        guard let bytes = input.baseAddress, let output = buffer.baseAddress else { return }
        if textBytes > 0 { done &= EVP_DecryptUpdate(opening, output, &length, bytes, Int32(textBytes)) }
        done &= cossl_aead_set_tag(opening, bytes + textBytes, Int32(Self.tagBytes))
        let valid = EVP_DecryptFinal_ex(opening, output + textBytes, &length)
        done &= valid > 0 ? 1 : 0
      }
      count = textBytes
    }
    ERR_clear_error()
    return done == 1 ? plaintext : nil
  }

  public func open(_ sealed: [UInt8], nonce: [UInt8], authenticating authenticated: [UInt8] = []) -> [UInt8]? {
    open(sealed[...], nonce: nonce[...], authenticating: authenticated)
  }
}
