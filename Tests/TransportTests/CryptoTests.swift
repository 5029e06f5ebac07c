import Primitives
import Testing
import Transport

@Suite struct CryptoTests {
  @Test(arguments: [
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
  ])
  func `SHA-256 gives the digests of FIPS 180-4`(text: String, digest: String) {
    #expect(hexString(SHA256.hash(Array(text.utf8))) == digest)
  }

  @Test(arguments: [
    (
      [UInt8](repeating: 0x0b, count: 20), Array("Hi There".utf8),
      "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    ),
    (
      Array("Jefe".utf8), Array("what do ya want for nothing?".utf8),
      "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    ),
    (
      [UInt8](repeating: 0xaa, count: 131), Array("Test Using Larger Than Block-Size Key - Hash Key First".utf8),
      "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
    ),
  ])
  func `HMAC-SHA-256 gives the codes of RFC 4231`(key: [UInt8], message: [UInt8], code: String) {
    let made = HMACSHA256.authenticate(message, key: key)
    #expect(hexString(made) == code)
    #expect(HMACSHA256.isValid(made, for: message[...], key: key))
    #expect(!HMACSHA256.isValid(made.dropLast(), for: message[...], key: key))
    #expect(!HMACSHA256.isValid(made, for: message.dropLast(), key: key))
  }

  @Test func `HKDF gives the keys of RFC 5869, appendix A`() {
    let first = HKDF.derive(
      material: [UInt8](repeating: 0x0b, count: 22), salt: Array(0x00...0x0c), info: Array(0xf0...0xf9), count: 42)
    #expect(
      hexString(first) == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
    let third = HKDF.derive(material: [UInt8](repeating: 0x0b, count: 22), salt: [], info: [], count: 42)
    #expect(
      hexString(third) == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8")
  }

  @Test func `AES-256-GCM gives the ciphertexts of the GCM specification`() {
    // McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 13, 14 and 16.
    let zero = AEAD(key: [UInt8](repeating: 0, count: 32))
    let nonce = [UInt8](repeating: 0, count: 12)
    #expect(hexString(zero.seal([], nonce: nonce)) == "530f8afbc74536b9a963b4f1c4cb738b")
    #expect(
      hexString(zero.seal([UInt8](repeating: 0, count: 16), nonce: nonce))
        == "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919")
    let key = bytes("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308")
    let text = bytes(
      "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    let sealed = AEAD(key: key).seal(
      text, nonce: bytes("cafebabefacedbaddecaf888"), authenticating: bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2"))
    #expect(
      hexString(sealed)
        == "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
        + "76fc6ece0f4e1768cddf8853bb2d551b")
  }

  @Test func `what was sealed opens, and a change of any byte, the nonce or what it is bound to does not`() {
    let aead = AEAD(key: secureRandom(count: 32))
    let nonce = secureRandom(count: 12)
    let bound: [UInt8] = [1, 2]
    for count in [0, 1, 15, 16, 17, 1400] {
      let text = secureRandom(count: count)
      let sealed = aead.seal(text, nonce: nonce, authenticating: bound)
      #expect(aead.open(sealed, nonce: nonce, authenticating: bound) == text)
      #expect(aead.open(sealed, nonce: nonce) == nil)
      #expect(aead.open(sealed, nonce: secureRandom(count: 12), authenticating: bound) == nil)
      #expect(aead.open(sealed, nonce: Array(nonce.dropLast()), authenticating: bound) == nil)
      #expect(aead.open(Array(sealed.dropLast()), nonce: nonce, authenticating: bound) == nil)
      for index in Set([0, sealed.count / 2, sealed.count - 1]).sorted() {
        var changed = sealed
        changed[index] ^= 0x80
        #expect(aead.open(changed, nonce: nonce, authenticating: bound) == nil)
      }
      #expect(aead.open(sealed, nonce: nonce, authenticating: bound) == text)
    }
    #expect(aead.open([], nonce: nonce) == nil)
  }

  @Test func `equality in constant time is equality`() {
    #expect(constantTimeEqual([1, 2, 3], [1, 2, 3][...]))
    #expect(!constantTimeEqual([1, 2, 3], [1, 2, 4]))
    #expect(!constantTimeEqual([1, 2, 3], [1, 2]))
    #expect(constantTimeEqual([UInt8](), []))
    #expect(secureRandom(count: 32) != secureRandom(count: 32))
  }

  private func bytes(_ hex: String) -> [UInt8] {
    let digits = Array(hex.utf8).map { $0 <= 0x39 ? $0 - 0x30 : $0 - 0x57 }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
  }
}
