/// Counts the length-prefixed messages of a gRPC body as its bytes pass: a flag, four bytes of length, the message (gRPC over
/// HTTP/2, "Requests"). A message counts once it is whole.
struct GRPCMessageCounter {
  private(set) var count: UInt64 = 0
  private var prefixBytes = 0
  private var length: UInt32 = 0
  private var left: UInt32 = 0

  mutating func pass(_ bytes: UnsafeBufferPointer<UInt8>) {
    var at = 0
    while at < bytes.count {
      if left > 0 {
        let step = min(Int(left), bytes.count - at)
        at += step
        left -= UInt32(truncatingIfNeeded: step)
        if left == 0 { count &+= 1 }
        continue
      }
      if prefixBytes > 0 { length = length << 8 | UInt32(bytes[at]) }
      prefixBytes += 1
      at += 1
      guard prefixBytes == 5 else { continue }
      left = length
      if left == 0 { count &+= 1 }
      prefixBytes = 0
      length = 0
    }
  }
}
