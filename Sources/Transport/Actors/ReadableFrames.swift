import Primitives

extension Frame {
  /// Whether the body of a frame about calls or watches is one that a node would take; for fuzzing.
  package var isReadable: Bool {
    switch kind {
    case .request:
      guard let head = try? RequestHead(parsing: body),
        let tape = try? ValueTape(body, from: head.end, count: head.arguments)
      else { return false }
      var index = 0
      for _ in 0..<head.arguments {
        _ = try? tape.decode(Sample.self, at: index)
        index = Int(tape.nodes[index].end)
      }
      return true
    case .reply: return isReadableReply
    case .route:
      guard let route = try? Route(parsing: body) else { return false }
      return route.body == body
    case .watch:
      guard let request = try? WatchRequest(parsing: body) else { return false }
      return request.body == body
    case .watching: return (try? WatchedLife(parsing: body))?.body == body
    case .terminated: return Termination(parsing: body)?.body == body
    case .cancel, .unwatch: return body.isEmpty
    default: return false
    }
  }

  private var isReadableReply: Bool {
    switch body.first.flatMap(ReplyStatus.init(rawValue:)) {
    case .value:
      guard let tape = try? ValueTape(body, from: 1, count: 1) else { return false }
      _ = try? tape.decode(Sample.self, at: 0)
      return true
    case .void: return body.count == 1
    case .error:
      var reader = ByteReader(body[1...])
      return (try? MeshError(parsingReply: &reader)) != nil
    case nil: return false
    }
  }
}

/// Something of every form that a value can have.
private indirect enum Sample: Decodable {
  case text(String)
  case number(Int)
  case small(UInt8)
  case real(Double)
  case truth(Bool)
  case bytes([UInt8])
  case list([Sample])
  case map([String: Sample])

  init(from decoder: any Decoder) throws {
    let value = try decoder.singleValueContainer()
    if let text = try? value.decode(String.self) {
      self = .text(text)
    } else if let number = try? value.decode(Int.self) {
      self = .number(number)
    } else if let small = try? value.decode(UInt8.self) {
      self = .small(small)
    } else if let real = try? value.decode(Double.self) {
      self = .real(real)
    } else if let truth = try? value.decode(Bool.self) {
      self = .truth(truth)
    } else if let bytes = try? value.decode([UInt8].self) {
      self = .bytes(bytes)
    } else if let list = try? value.decode([Sample].self) {
      self = .list(list)
    } else {
      self = .map(try value.decode([String: Sample].self))
    }
  }
}
