/// A value kept once for all its copies: a copy takes one word, and a change makes a value of its own.
///
/// For what many tables hold alike, or what few entries of a table have at all.
public struct Shared<Value: Hashable & Sendable>: Hashable, Sendable {
  private final class Box: Sendable {
    let value: Value
    init(_ value: Value) { self.value = value }
  }
  private var box: Box

  public init(_ value: Value) { box = Box(value) }

  public var value: Value {
    get { box.value }
    set { box = Box(newValue) }
  }

  public static func == (a: Self, b: Self) -> Bool { a.box === b.box || a.box.value == b.box.value }
  public func hash(into hasher: inout Hasher) { hasher.combine(box.value) }
}
