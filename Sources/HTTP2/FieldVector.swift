import CNGHTTP2
import HTTPCodec

/// The fields of one outgoing header section as the library takes them: pointers into a header block, in an array that is
/// used again. The library copies names (lower-casing them) and values before `submit` returns.
struct FieldVector {
  private var entries: UnsafeMutablePointer<nghttp2_nv>
  private var capacity = 128
  private(set) var count = 0

  init() { entries = .allocate(capacity: capacity) }

  func deallocate() { entries.deallocate() }

  var pointer: UnsafeMutablePointer<nghttp2_nv> { entries }

  mutating func removeAll() { count = 0 }

  mutating func add(_ name: StaticString, _ value: UnsafeBufferPointer<UInt8>) {
    append(UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount), value, neverIndexed: false)
  }

  /// Adds the fields that may cross from one connection to another (RFC 9113 8.2.2). `bytes` are the block's.
  mutating func add(_ headers: borrowing HeaderBlock, _ bytes: UnsafeBufferPointer<UInt8>) {
    for field in headers.fields where !field.isRemoved {
      let value = UnsafeBufferPointer(rebasing: bytes[field.value])
      switch field.known {
      case .host, .connection, .keepAlive, .proxyConnection, .transferEncoding, .upgrade: continue
      case .te where !Self.isTrailers(value): continue
      default: append(UnsafeBufferPointer(rebasing: bytes[field.name]), value, neverIndexed: Self.isUnique(field.known))
      }
    }
  }

  private mutating func append(
    _ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>, neverIndexed: Bool
  ) {
    if count == capacity { grow() }
    let flags = neverIndexed ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE
    (entries + count).initialize(
      to: nghttp2_nv(
        name: UnsafeMutablePointer(mutating: name.baseAddress), value: UnsafeMutablePointer(mutating: value.baseAddress),
        namelen: name.count, valuelen: value.count, flags: UInt8(truncatingIfNeeded: flags.rawValue)))
    count += 1
  }

  private mutating func grow() {
    let larger = UnsafeMutablePointer<nghttp2_nv>.allocate(capacity: capacity * 2)
    larger.moveInitialize(from: entries, count: count)
    entries.deallocate()
    entries = larger
    capacity *= 2
  }

  /// Values that differ in every request would only drive useful ones out of the peer's table; credentials must not be
  /// compared by compression (RFC 7541 7.1.3).
  private static func isUnique(_ known: KnownHeader) -> Bool {
    switch known {
    case .requestID, .traceparent, .authorization, .contentLength, .upstreamServiceTime, .grpcTimeout: true
    default: false
    }
  }

  private static func isTrailers(_ value: UnsafeBufferPointer<UInt8>) -> Bool {
    let text: StaticString = "trailers"
    guard value.count == text.utf8CodeUnitCount else { return false }
    for i in value.indices where value[i] | 0x20 != text.utf8Start[i] { return false }
    return true
  }
}
