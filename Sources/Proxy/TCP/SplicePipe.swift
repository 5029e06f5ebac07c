import CLinux
import Glibc
import Transport

/// A pipe through which the kernel moves bytes from one socket to another without copying them up here (splice(2)).
final class SplicePipe {
  private let readSide: Int32
  private let writeSide: Int32
  private var held = 0

  /// Nil when the process is out of descriptors.
  init?() {
    var (reads, writes): (Int32, Int32) = (-1, -1)
    guard cl_splice_pipe(&reads, &writes, Int32(ProxyLimits.splicePipeBytes)) == 0 else { return nil }
    (readSide, writeSide) = (reads, writes)
  }

  deinit {
    close(readSide)
    close(writeSide)
  }

  var isEmpty: Bool { held == 0 }

  func fill(from socket: Int32) -> IOResult {
    let result = Self.result(cl_splice(socket, writeSide, ProxyLimits.splicePipeBytes))
    if case .bytes(let count) = result { held += count }
    return result
  }

  func drain(to socket: Int32) -> IOResult {
    let result = Self.result(cl_splice(readSide, socket, held))
    if case .bytes(let count) = result { held = max(0, held - count) }
    return result
  }

  private static func result(_ count: Int) -> IOResult {
    switch count {
    case 1...: .bytes(count)
    case 0: .endOfStream
    case -Int(EAGAIN): .wouldBlock
    default: .failed(Int32(clamping: -count))
    }
  }
}

/// Pipes of one worker that no transfer uses.
struct SplicePipePool {
  private var free: [SplicePipe] = []

  mutating func take() -> SplicePipe? { free.popLast() ?? SplicePipe() }

  mutating func give(_ pipe: SplicePipe) {
    if pipe.isEmpty, free.count < ProxyLimits.pooledPipes { free.append(pipe) }
  }
}
