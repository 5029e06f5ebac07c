import COpenSSL
import Primitives

/// SHA-256 (FIPS 180-4), fetched once: fetching costs more than hashing a short message.
public enum SHA256 {
  public static let byteCount = 32
  nonisolated(unsafe) static let algorithm: OpaquePointer? = EVP_MD_fetch(nil, "SHA256", nil)

  public static func hash(_ bytes: [UInt8]) -> [UInt8] { bytes.withUnsafeBytes { hash($0) } }
  public static func hash(_ bytes: ArraySlice<UInt8>) -> [UInt8] { bytes.withUnsafeBytes { hash($0) } }
  public static func hash(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
    let digest = [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
      var length: UInt32 = 0
      let done = EVP_Digest(bytes.baseAddress, bytes.count, buffer.baseAddress, &length, algorithm, nil)
      count = done == 1 ? Int(length) : 0
    }
    precondition(digest.count == byteCount, "SHA-256 is not available in this OpenSSL")
    return digest
  }
}

/// HMAC with SHA-256 (RFC 2104).
/// Not for security any more: only for the handshake of WebSocket (RFC 6455), which names it.
public enum SHA1 {
  public static func hash(_ bytes: [UInt8]) -> [UInt8] {
    var digest = [UInt8](repeating: 0, count: 20)
    var length: UInt32 = 0
    let done = EVP_Digest(bytes, bytes.count, &digest, &length, EVP_sha1(), nil)
    precondition(done == 1 && length == 20, "OpenSSL has no SHA-1")
    return digest
  }
}

public enum HMACSHA256 {
  public static func authenticate(_ message: [UInt8], key: [UInt8]) -> [UInt8] { authenticate(message[...], key: key) }
  public static func authenticate(_ message: ArraySlice<UInt8>, key: [UInt8]) -> [UInt8] {
    let code = [UInt8](unsafeUninitializedCapacity: SHA256.byteCount) { buffer, count in
      var length: UInt32 = 0
      let result = message.withUnsafeBytes { bytes in
        HMAC(
          SHA256.algorithm, key, Int32(key.count), bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count,
          buffer.baseAddress, &length)
      }
      count = result == nil ? 0 : Int(length)
    }
    precondition(code.count == SHA256.byteCount, "HMAC-SHA-256 is not available in this OpenSSL")
    return code
  }

  /// Whether `code` is the code of `message`, compared in constant time.
  public static func isValid(_ code: some Collection<UInt8>, for message: ArraySlice<UInt8>, key: [UInt8]) -> Bool {
    constantTimeEqual(code, authenticate(message, key: key))
  }
}

/// HKDF with SHA-256 (RFC 5869): one strong key out of key material, another for each purpose.
public enum HKDF {
  /// Extract and expand. `count` is at most 255 × 32 bytes.
  public static func derive(material: [UInt8], salt: [UInt8], info: [UInt8], count: Int) -> [UInt8] {
    precondition((1...255 * SHA256.byteCount).contains(count), "HKDF gives 1 to 8160 bytes")
    let key = HMACSHA256.authenticate(material, key: salt.isEmpty ? [UInt8](repeating: 0, count: SHA256.byteCount) : salt)
    var output: [UInt8] = []
    var block: [UInt8] = []
    var number: UInt8 = 1
    while output.count < count {
      block = HMACSHA256.authenticate(block + info + [number], key: key)
      output += block
      number &+= 1
    }
    return Array(output.prefix(count))
  }
}

/// Bytes from the system's generator, for keys, nonces and serial numbers.
public func secureRandom(count: Int) -> [UInt8] {
  guard count > 0 else { return [] }
  return [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
    let done = RAND_bytes(buffer.baseAddress, Int32(count))
    precondition(done == 1, "the system's random generator failed")
    initialized = count
  }
}

/// Compares without telling by its time where the first difference is. Lengths are not secret.
public func constantTimeEqual(_ a: some Collection<UInt8>, _ b: some Collection<UInt8>) -> Bool {
  guard a.count == b.count else { return false }
  var difference: UInt8 = 0
  for (x, y) in zip(a, b) { difference |= x ^ y }
  return difference == 0
}
