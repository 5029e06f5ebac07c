import Consensus
import Primitives

/// The control state of a cluster at one moment, as a file that is kept elsewhere.
///
/// `magic 8 · format u8 · cluster · node · milliseconds u64 · version · state · SHA-256 of all before`. Values of Secrets are sealed in it,
/// as they are in the log.
public struct Backup: Sendable {
  private static let magic = Array("meshback".utf8)
  private static let format: UInt8 = 1
  /// Bytes of a file: the largest state, and its head.
  public static let fileBytesMax = ConsensusLimits.snapshotBytesMax + 4_096
  private static let textBytesMax = 256

  /// The cluster's name.
  public let cluster: String
  /// The node that gave it.
  public let node: String
  /// When, by that node's wall clock, since 1970.
  public let milliseconds: UInt64
  /// The version of the program that wrote it.
  public let version: String
  public let state: ControlState

  /// The revision of the configuration in it.
  public var revision: UInt64 { state.revision.number }
  public var objectCount: Int { state.objects.count }

  public init(cluster: String, node: String, milliseconds: UInt64, version: String, state: ControlState) {
    self.cluster = cluster
    self.node = node
    self.milliseconds = milliseconds
    self.version = version
    self.state = state
  }

  public var bytes: [UInt8] {
    var writer = ByteWriter()
    writer.raw(Self.magic)
    writer.uint8(Self.format)
    writer.string(cluster)
    writer.string(node)
    writer.uint64(milliseconds)
    writer.string(version)
    writer.lengthPrefixed(state.snapshot())
    writer.raw(SHA256.digest(of: writer.bytes).bytes)
    return writer.bytes
  }

  /// Reads and verifies what `bytes` gave.
  public init(bytes: [UInt8]) throws(BackupError) {
    guard bytes.starts(with: Self.magic), bytes.count > Self.magic.count + Digest.byteCount else { throw .notABackup }
    let body = Array(bytes.dropLast(Digest.byteCount))
    guard SHA256.digest(of: body).bytes == Array(bytes.suffix(Digest.byteCount)) else { throw .damaged }
    var reader = ByteReader(body.dropFirst(Self.magic.count))
    let state: ArraySlice<UInt8>
    do {
      let format = try reader.uint8()
      guard format == Self.format else { throw BackupError.newerFormat(format) }
      cluster = try reader.string(max: Self.textBytesMax)
      node = try reader.string(max: Self.textBytesMax)
      milliseconds = try reader.uint64()
      version = try reader.string(max: Self.textBytesMax)
      state = try reader.lengthPrefixed(max: ConsensusLimits.snapshotBytesMax)
      try reader.finish()
    } catch let error as BackupError { throw error } catch { throw .damaged }
    do { self.state = try ControlState(restoring: Array(state)) } catch { throw .unusable(error.description) }
  }
}

/// Why a file cannot be restored.
public enum BackupError: Error, Hashable, Sendable, CustomStringConvertible {
  case notABackup
  case damaged
  case newerFormat(UInt8)
  case unusable(String)

  public var description: String {
    switch self {
    case .notABackup: "it is not a backup; make one with: mesh-node backup FILE"
    case .damaged: "it is damaged: its bytes are not those that were written; take another backup"
    case .newerFormat(let format):
      "it has format \(format), which this version does not know; use the version that wrote it, or newer"
    case .unusable(let detail): "its state cannot be used: \(detail)"
    }
  }
}
