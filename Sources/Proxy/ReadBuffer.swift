import Glibc
import HTTPCodec
import Transport

/// Bytes received and not yet used: one block of memory, filled at its end and used from its start.
///
/// Owned by one connection on one worker's thread; `bytes` must not be kept beyond the next call that changes the buffer.
final class ReadBuffer {
  private var memory: UnsafeMutableRawPointer
  private(set) var capacity: Int
  private(set) var start = 0
  private(set) var end = 0

  init(capacity: Int) {
    self.capacity = capacity
    memory = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
  }

  deinit { memory.deallocate() }

  var count: Int { end - start }
  var isEmpty: Bool { start == end }

  /// All unused bytes.
  var bytes: UnsafeBufferPointer<UInt8> {
    UnsafeBufferPointer(start: (memory + start).assumingMemoryBound(to: UInt8.self), count: end - start)
  }

  /// The last read left room, so there was nothing more to read at that moment.
  var hasRoom: Bool { end < capacity }

  func consume(_ count: Int) {
    start = min(end, start + max(0, count))
    if start == end {
      start = 0
      end = 0
    }
  }

  func removeAll() {
    start = 0
    end = 0
  }

  /// Makes room at the end: moves the bytes to the front, then grows up to `ProxyLimits.readBufferBytesMax`.
  func makeRoom() -> Bool {
    if end < capacity { return true }
    if start > 0 {
      memmove(memory, memory + start, count)
      end -= start
      start = 0
      return true
    }
    guard capacity < ProxyLimits.readBufferBytesMax else { return false }
    let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity * 2, alignment: 16)
    memcpy(larger, memory, end)
    memory.deallocate()
    memory = larger
    capacity *= 2
    return true
  }

  /// Puts bytes at the end, as far as they fit.
  func append(_ bytes: [UInt8]) {
    var rest = bytes[...]
    while !rest.isEmpty, makeRoom() {
      let part = rest.prefix(capacity - end)
      part.withUnsafeBytes { UnsafeMutableRawBufferPointer(start: memory + end, count: part.count).copyMemory(from: $0) }
      end += part.count
      rest = rest.dropFirst(part.count)
    }
  }

  /// Reads once. `wouldBlock` also when the buffer is full; ask `makeRoom` first.
  func fill(from stream: borrowing ByteStream) -> IOResult {
    guard makeRoom() else { return .wouldBlock }
    let result = stream.read(into: UnsafeMutableRawBufferPointer(start: memory + end, count: capacity - end))
    if case .bytes(let count) = result { end += min(count, capacity - end) }
    return result
  }
}

/// Bytes to be sent, in order.
struct OutputBuffer {
  var bytes: [UInt8] = []
  private var sent = 0

  var pending: Int { bytes.count - sent }
  var isEmpty: Bool { sent == bytes.count }

  /// Appends bytes of an HTTP/1 message's body, as a chunk where its head announced chunks (RFC 9112 7.1).
  mutating func appendBody(_ body: UnsafeBufferPointer<UInt8>, chunked: Bool) {
    if chunked {
      ChunkedEncoder.write(body.span, into: &bytes)
    } else {
      bytes.append(contentsOf: body)
    }
  }

  mutating func removeAll() {
    sent = 0
    if bytes.capacity > ProxyLimits.outputKeptBytes { bytes = [] } else { bytes.removeAll(keepingCapacity: true) }
  }

  /// What is pending, which is somebody else's to write now.
  mutating func takeAll() -> [UInt8] {
    defer { removeAll() }
    return Array(bytes[sent...])
  }

  /// Writes what it can. `.bytes` when all is out, `.wouldBlock` when some is left, else the failure.
  mutating func flush(to stream: borrowing ByteStream) -> IOResult {
    if bytes.isEmpty { return .bytes(0) }
    while sent < bytes.count {
      let result = bytes.withUnsafeBytes { raw in
        stream.write(UnsafeRawBufferPointer(rebasing: raw[sent...]))
      }
      guard case .bytes(let count) = result else {
        if sent > ProxyLimits.outputHighWater { compact() }
        return result
      }
      sent = min(bytes.count, sent + count)
    }
    removeAll()
    return .bytes(0)
  }

  private mutating func compact() {
    bytes.removeFirst(sent)
    sent = 0
  }
}

/// Read buffers that no connection uses: an idle connection holds none.
struct ReadBufferPool {
  private var free: [ReadBuffer] = []

  mutating func take() -> ReadBuffer { free.popLast() ?? ReadBuffer(capacity: ProxyLimits.readBufferBytes) }

  mutating func give(_ buffer: ReadBuffer) {
    guard buffer.capacity == ProxyLimits.readBufferBytes, free.count < ProxyLimits.pooledReadBuffers else { return }
    buffer.removeAll()
    free.append(buffer)
  }
}
