/// The way from an object's root to a field: `spec.http[0].match[1].uri`.
struct FieldPath: Hashable, Sendable, CustomStringConvertible {
  enum Step: Hashable, Sendable {
    case field(String)
    case index(Int)
  }
  private(set) var steps: [Step] = []

  static let root = FieldPath()
  static let spec = FieldPath.root.field("spec")

  func field(_ name: String) -> FieldPath { appending(.field(name)) }
  subscript(index: Int) -> FieldPath { appending(.index(index)) }
  /// `path / "route" / "weight"`
  static func / (path: FieldPath, name: String) -> FieldPath { path.field(name) }

  private func appending(_ step: Step) -> FieldPath {
    var copy = self
    copy.steps.append(step)
    return copy
  }

  var description: String {
    var text = ""
    for step in steps {
      switch step {
      case .index(let index): text += "[\(index)]"
      case .field(let name) where name.utf8.contains(0x2E) || name.utf8.contains(0x5B): text += "[\(name)]"
      case .field(let name): text += text.isEmpty ? name : ".\(name)"
      }
    }
    return text
  }
}

extension YAMLNode {
  /// Where the field at `path` stands, or its nearest enclosing one that is written.
  func position(of path: FieldPath) -> SourcePosition {
    var node = self
    var position = self.position
    for step in path.steps {
      switch (step, node.value) {
      case (.field(let name), .mapping(let entries)):
        guard let entry = entries.first(where: { $0.key == name }) else { return position }
        position = entry.position
        node = entry.value
      case (.index(let index), .sequence(let items)) where items.indices.contains(index):
        node = items[index]
        position = node.position
      default:
        return position
      }
    }
    return position
  }
}
