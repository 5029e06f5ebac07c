import Distributed
import Synchronization

/// Gathers a call's arguments straight into the body of its request frame.
public struct MeshInvocationEncoder: DistributedTargetInvocationEncoder {
  public typealias SerializationRequirement = any Codable

  let writer: ValueWriter
  private(set) var arguments = 0

  init(trace: CallTrace?) { writer = ValueWriter(prefix: RequestHead.placeholder(trace: trace)) }

  public mutating func recordGenericSubstitution<T>(_ type: T.Type) throws {
    throw MeshError(.invalid, "a generic function cannot be called remotely: no type is looked up by a name from the wire")
  }

  public mutating func recordArgument<Value: Codable>(_ argument: RemoteCallArgument<Value>) throws {
    guard arguments < CallLimits.argumentsMax else {
      throw MeshError(.invalid, "a remote call has at most \(CallLimits.argumentsMax) arguments")
    }
    do {
      try writer.append(argument.value)
    } catch {
      throw MeshError(.invalid, "argument \(arguments + 1): \(error)")
    }
    arguments += 1
  }

  public mutating func recordReturnType<R: Codable>(_ type: R.Type) throws {}
  public mutating func recordErrorType<E: Error>(_ type: E.Type) throws {}
  public mutating func doneRecording() throws {}
}

/// Hands out a call's arguments, all of which were checked for form before the first is decoded.
public struct MeshInvocationDecoder: DistributedTargetInvocationDecoder {
  public typealias SerializationRequirement = any Codable

  private let tape: ValueTape
  private let count: Int
  private var next = 0
  /// Where the next argument stands on the tape.
  private var index = 0

  init(body: [UInt8], head: RequestHead) throws {
    count = head.arguments
    do {
      tape = try ValueTape(body, from: head.end, count: head.arguments)
    } catch {
      throw MeshError(.badArguments, "the arguments cannot be read: \(error)")
    }
  }

  public mutating func decodeGenericSubstitutions() throws -> [any Any.Type] { [] }

  public mutating func decodeNextArgument<Argument: Codable>() throws -> Argument {
    guard next < count else { throw MeshError(.badArguments, "the call has only \(count) arguments") }
    defer {
      index = Int(tape.nodes[index].end)
      next += 1
    }
    do {
      return try tape.decode(Argument.self, at: index)
    } catch {
      throw MeshError(.badArguments, "argument \(next + 1) is not a \(Argument.self): \(ValueError.text(error))")
    }
  }

  public mutating func decodeErrorType() throws -> (any Any.Type)? { nil }
  public mutating func decodeReturnType() throws -> (any Any.Type)? { nil }
}

/// Encodes what a call came to; the first outcome is the reply.
public final class MeshResultHandler: DistributedTargetInvocationResultHandler {
  public typealias SerializationRequirement = any Codable

  private let outcome = Mutex<[UInt8]?>(nil)

  init() {}

  /// The body of the reply, once the call has ended.
  var reply: [UInt8]? { outcome.withLock { $0 } }

  private func settle(_ body: [UInt8]) { outcome.withLock { if $0 == nil { $0 = body } } }

  /// A result as the body of a reply.
  static func body(of value: some Codable) -> [UInt8] {
    let writer = ValueWriter(prefix: [ReplyStatus.value.rawValue])
    do {
      try writer.append(value)
      return writer.bytes
    } catch {
      return MeshError(.internal, "the result cannot be encoded: \(ValueError.text(error))").replyBody
    }
  }

  public func onReturn<Success: Codable>(value: Success) async throws { settle(Self.body(of: value)) }
  public func onReturnVoid() async throws { settle([ReplyStatus.void.rawValue]) }
  public func onThrow<Failure: Error>(error: Failure) async throws { settle(MeshError(wrapping: error).replyBody) }
}

extension ValueError {
  /// Words for an error of coding that tell nothing of the values.
  static func text(_ error: any Error) -> String {
    switch error {
    case let error as ValueError: error.description
    case is DecodingError: "a value is not one that the type allows"
    default: "\(type(of: error))"
    }
  }
}
