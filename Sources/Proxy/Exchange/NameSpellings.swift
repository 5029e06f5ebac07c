import HTTPCodec
import MeshConfig
import Primitives

// The case of field names (Istio, `preserveHttp1HeaderCase`). A node passes HTTP/1 names on as they were written; between two
// nodes is HTTP/2, so there one tells the other in `x-mesh-header-case`. Only a node is believed: from anybody else that field
// is taken away unread, and no application or client ever sees it.
extension Exchange {
  var keepsCase: Bool { snapshot.settings.proxy.headers.preservesCase }

  /// What a calling node says of its client; nil where the caller is none, or its client speaks no HTTP/1.
  var spellingsOfCaller: [UInt8]? {
    guard caller.port.isMeshInbound, caller.peer != nil, !caller.isInner else { return nil }
    return Self.told(head.headers)
  }

  /// What the node that answers says of its application; nil where no node answers.
  func spellings(of answer: HeaderBlock) -> [UInt8]? { isMeshTry ? Self.told(answer) : nil }

  private static func told(_ headers: HeaderBlock) -> [UInt8]? {
    guard let value = headers.value(.headerCase), value.count <= ProxyLimits.spellingsBytesMax else { return nil }
    return headers.copy(value)
  }

  /// Tells the next node of a client's names, or writes them as that client did. An empty list tells that this side can read one.
  func spellRequest() {
    if caller.isHTTP2, spellings == nil { return }
    let names = spellings ?? head.headers.spellings(limit: ProxyLimits.spellingsBytesMax)
    if isMeshTry { head.headers.set(Names.headerCase, names) } else { head.respell(names.span) }
  }

  /// The same for an answer: to a node that has told its client's names, and to a client.
  func spell(_ answer: inout HeaderBlock, as told: [UInt8]?) {
    if caller.isHTTP2, spellings == nil { return }
    let names = told ?? answer.spellings(limit: ProxyLimits.spellingsBytesMax)
    if spellings == nil {
      answer.respell(names.span)
    } else if !names.isEmpty {
      answer.set(Names.headerCase, names)
    }
  }
}
