import CLinux
import Glibc
import HTTPCodec

/// Reads the ClientHello of a socket and leaves it there, for whoever continues the connection.
enum HelloPeek {
  /// Nil when the client has ended before its hello was complete. `early` are bytes read before.
  static func read(_ descriptor: Int32, after early: ArraySlice<UInt8> = []) -> ClientHello.Outcome? {
    var bytes = Array(early)
    if !bytes.isEmpty {
      let outcome = ClientHello.read(bytes.span)
      if outcome != .needMore { return outcome }
    }
    var found = 0
    let more = [UInt8](unsafeUninitializedCapacity: ClientHello.recordBytesMax + 1) { buffer, count in
      found = cl_peek(descriptor, buffer.baseAddress, buffer.count)
      count = max(0, found)
    }
    guard found > 0 else { return found == -Int(EAGAIN) || found == -Int(EINTR) ? .needMore : nil }
    bytes += more
    return ClientHello.read(bytes.span)
  }
}
