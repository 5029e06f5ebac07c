import COpenSSL
import Primitives

/// Chooses a server's context by the name the client asks for, before anything else is negotiated.
enum ServerNameSelection {
  typealias Callback = @convention(c) (OpaquePointer?, UnsafeMutablePointer<Int32>?, UnsafeMutableRawPointer?) -> Int32

  static let callback: Callback = { ssl, alert, _ in
    guard let ssl, let session = TLSSession.of(ssl) else { return SSL_CLIENT_HELLO_ERROR }
    var bytes: UnsafePointer<UInt8>?
    var count = 0
    let present = SSL_client_hello_get0_ext(ssl, UInt32(TLSEXT_TYPE_server_name), &bytes, &count) == 1
    let extensionBytes = present ? Array(UnsafeBufferPointer(start: bytes, count: count)) : []
    guard let name = present ? hostName(in: extensionBytes) : [] else {
      alert?.pointee = SSL_AD_DECODE_ERROR
      return SSL_CLIENT_HELLO_ERROR
    }
    guard session.select(byName: name) else {
      alert?.pointee = SSL_AD_UNRECOGNIZED_NAME
      return SSL_CLIENT_HELLO_ERROR
    }
    return SSL_CLIENT_HELLO_SUCCESS
  }

  /// The one host name of a server_name extension (RFC 6066 §3), lower-cased; nil when malformed.
  static func hostName(in bytes: [UInt8]) -> [UInt8]? {
    var reader = ByteReader(bytes)
    guard let listBytes = try? reader.uint16(), Int(listBytes) == reader.remaining,
      let type = try? reader.uint8(), type == 0,
      let nameBytes = try? reader.uint16(), Int(nameBytes) == reader.remaining,
      (1...TransportLimits.hostNameBytesMax).contains(Int(nameBytes)),
      let name = try? reader.bytes(count: Int(nameBytes)),
      name.allSatisfy({ $0 > 0x20 && $0 < 0x7F })
    else { return nil }
    return name.map(ASCII.lowercased)
  }
}

/// Chooses the application protocol: the first of the server's list that the client offers (RFC 7301 §3.2).
enum ApplicationProtocolSelection {
  typealias Callback =
    @convention(c) (
      OpaquePointer?, UnsafeMutablePointer<UnsafePointer<UInt8>?>?, UnsafeMutablePointer<UInt8>?, UnsafePointer<UInt8>?,
      UInt32, UnsafeMutableRawPointer?
    ) -> Int32

  static let callback: Callback = { ssl, chosen, chosenCount, offered, offeredCount, _ in
    guard let ssl, let session = TLSSession.of(ssl), let offered else { return SSL_TLSEXT_ERR_ALERT_FATAL }
    let offer = UnsafeBufferPointer(start: offered, count: Int(offeredCount))
    for wanted in session.context.protocols {
      var index = 0
      while index < offer.count {
        let count = Int(offer[index])
        guard count > 0, index + 1 + count <= offer.count else { break }
        if offer[(index + 1)..<(index + 1 + count)].elementsEqual(wanted) {
          chosen?.pointee = offered + index + 1
          chosenCount?.pointee = offer[index]
          return SSL_TLSEXT_ERR_OK
        }
        index += 1 + count
      }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL
  }
}
