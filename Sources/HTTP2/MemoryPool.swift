import CNGHTTP2
import Glibc

/// Free lists by size for the codec library, so that a warm connection allocates nothing. One a thread: sessions that
/// share a pool share its thread.
///
/// A block carries its size class in a header of 16 bytes, which keeps what follows aligned.
public final class HTTP2MemoryPool {
  /// Blocks taken from the system so far: stands still once connections are warm.
  @exclusivity(unchecked) public private(set) var systemAllocations = 0
  /// Bytes in free lists.
  @exclusivity(unchecked) public private(set) var idleBytes = 0

  /// Bytes that may stay in free lists; more go back to the system. Enough for the state of some thousand streams.
  private static let idleBytesMax = 4 * 1024 * 1024
  private static let headerBytes = 16
  /// Four classes a doubling waste at most a quarter.
  private static let classes = [64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024, 1536, 2048, 3072, 4096]
  private static let unpooled = classes.count

  private let free: UnsafeMutablePointer<UnsafeMutableRawPointer?>
  /// The class for each number of 16-byte steps.
  private let classOfSteps: UnsafeMutablePointer<UInt8>
  private let sizes: UnsafeMutablePointer<Int>
  private static let stepsMax = 4096 / 16

  public init() {
    free = .allocate(capacity: Self.classes.count)
    free.initialize(repeating: nil, count: Self.classes.count)
    sizes = .allocate(capacity: Self.classes.count)
    sizes.initialize(from: Self.classes, count: Self.classes.count)
    classOfSteps = .allocate(capacity: Self.stepsMax + 1)
    var index = 0
    for step in 0...Self.stepsMax {
      if step * 16 > Self.classes[index] { index += 1 }
      classOfSteps[step] = UInt8(index)
    }
  }

  deinit {
    for index in Self.classes.indices {
      var block = free[index]
      while let next = block {
        block = next.load(as: UnsafeMutableRawPointer?.self)
        Glibc.free(next - Self.headerBytes)
      }
    }
    free.deallocate()
    sizes.deallocate()
    classOfSteps.deallocate()
  }

  func allocate(_ count: Int) -> UnsafeMutableRawPointer? {
    let (total, overflow) = count.addingReportingOverflow(Self.headerBytes)
    if overflow { return nil }
    let steps = (total + 15) >> 4
    guard steps <= Self.stepsMax else { return system(total, Self.unpooled) }
    let index = Int(classOfSteps[steps])
    guard let block = free[index] else { return system(sizes[index], index) }
    free[index] = block.load(as: UnsafeMutableRawPointer?.self)
    idleBytes -= sizes[index]
    return block
  }

  private func system(_ bytes: Int, _ index: Int) -> UnsafeMutableRawPointer? {
    guard let raw = malloc(bytes) else { return nil }
    systemAllocations += 1
    raw.storeBytes(of: index, as: Int.self)
    raw.storeBytes(of: bytes, toByteOffset: 8, as: Int.self)
    return raw + Self.headerBytes
  }

  func release(_ block: UnsafeMutableRawPointer?) {
    guard let block else { return }
    let header = block - Self.headerBytes
    let index = header.load(as: Int.self)
    guard index < Self.unpooled, idleBytes < Self.idleBytesMax else { return Glibc.free(header) }
    block.storeBytes(of: free[index], as: UnsafeMutableRawPointer?.self)
    free[index] = block
    idleBytes += sizes[index]
  }

  func resize(_ block: UnsafeMutableRawPointer?, to count: Int) -> UnsafeMutableRawPointer? {
    guard let block else { return allocate(count) }
    let held = (block - Self.headerBytes).load(fromByteOffset: 8, as: Int.self) - Self.headerBytes
    if count <= held { return block }
    guard let larger = allocate(count) else { return nil }
    memcpy(larger, block, held)
    release(block)
    return larger
  }

  /// The library's view of this pool; valid as long as the pool lives.
  var functions: nghttp2_mem {
    nghttp2_mem(
      mem_user_data: Unmanaged.passUnretained(self).toOpaque(),
      malloc: { size, pool in HTTP2MemoryPool.with(pool) { $0.allocate(size) } },
      free: { block, pool in HTTP2MemoryPool.with(pool) { $0.release(block) } },
      calloc: { count, size, pool in
        let (bytes, overflow) = count.multipliedReportingOverflow(by: size)
        guard !overflow, let block = HTTP2MemoryPool.with(pool, { $0.allocate(bytes) }) else { return nil }
        memset(block, 0, bytes)
        return block
      },
      realloc: { block, size, pool in HTTP2MemoryPool.with(pool) { $0.resize(block, to: size) } })
  }

  /// Sessions hold their pool, so no reference is counted here.
  @inline(__always)
  private static func with<Result>(_ pointer: UnsafeMutableRawPointer?, _ body: (HTTP2MemoryPool) -> Result?) -> Result? {
    guard let pointer else { return nil }
    return Unmanaged<HTTP2MemoryPool>.fromOpaque(pointer)._withUnsafeGuaranteedRef(body)
  }
}
