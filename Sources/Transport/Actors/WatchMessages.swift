import Primitives

/// The body of a watch: whom, and which life of it when that was known before.
struct WatchRequest: Hashable, Sendable {
  var actor: String
  /// Zero: whichever lives under that name now.
  var life: UInt64

  init(actor: String, life: UInt64) {
    self.actor = actor
    self.life = life
  }

  init(parsing body: [UInt8]) throws(ByteError) {
    var reader = ByteReader(body)
    actor = try reader.string(max: CallLimits.actorNameBytesMax)
    life = try reader.uint64()
    try reader.finish()
  }

  var body: [UInt8] {
    var writer = ByteWriter()
    writer.string(actor)
    writer.uint64(life)
    return writer.bytes
  }
}

/// The body of `watching`: which life of the actor is watched, never zero.
struct WatchedLife: Hashable, Sendable {
  var life: UInt64

  init(life: UInt64) { self.life = life }

  init(parsing body: [UInt8]) throws(ByteError) {
    var reader = ByteReader(body)
    life = try reader.uint64()
    guard life != 0 else { throw .malformed }
    try reader.finish()
  }

  var body: [UInt8] {
    var writer = ByteWriter()
    writer.uint64(life)
    return writer.bytes
  }
}

extension Termination {
  /// The body of `terminated`. That a node is gone is never told by the node.
  init?(parsing body: [UInt8]) {
    switch body {
    case [0]: self = .ended
    case [1]: self = .absent
    case [2]: self = .refused
    default: return nil
    }
  }

  var body: [UInt8] {
    switch self {
    case .ended, .nodeGone: [0]
    case .absent: [1]
    case .refused: [2]
    }
  }
}
