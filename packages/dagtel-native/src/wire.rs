//! Dagster's own shapes, as far as they are read: `receivers/dagster_wire.py` and `wire_shapes.py` say what they mean.

use crate::errors::WireError;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// A text, borrowed from the input where it holds no escapes.
pub struct Text<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Text<'de>;
            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        from.deserialize_str(Texts)
    }
}

/// An object: serde takes a list, too, for a struct's fields in their order.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Maps<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Maps<T> {
            type Value = Object<T>;
            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        from.deserialize_map(Maps(PhantomData))
    }
}

/// The struct that a text holds, written as an object.
pub fn object<'a, T: Deserialize<'a>>(json: &'a str) -> serde_json::Result<T> {
    serde_json::from_str::<Object<T>>(json).map(|object| object.0)
}

/// The same, of which nothing is there where the text is `null`.
pub fn optional<'a, T: Deserialize<'a> + Default>(json: &'a str) -> serde_json::Result<T> {
    serde_json::from_str::<Option<Object<T>>>(json).map(|object| object.map_or_else(T::default, |object| object.0))
}

/// The text, or "" where there is none.
#[inline]
pub fn or_empty<'t>(text: &'t Option<Text<'_>>) -> &'t str {
    text.as_ref().map_or("", |text| &text.0)
}

#[derive(Deserialize)]
pub struct Key<'a> {
    #[serde(borrow)]
    path: Vec<Text<'a>>,
}

impl Key<'_> {
    /// Its parts joined by "/".
    pub fn joined(&self) -> Cow<'_, str> {
        match self.path.as_slice() {
            [one] => Cow::Borrowed(&one.0),
            parts => Cow::Owned(parts.iter().map(|part| &*part.0).collect::<Vec<_>>().join("/")),
        }
    }
}

#[derive(Default, Deserialize)]
pub struct Failed<'a> {
    #[serde(borrow, default)]
    pub error: Option<Object<WireError<'a>>>,
    #[serde(borrow, default)]
    pub error_source: Named<'a>,
    #[serde(default)]
    pub seconds_to_wait: Option<f64>,
    #[serde(borrow, default)]
    pub failure_reason: Named<'a>,
    #[serde(borrow, default)]
    pub first_step_failure_event: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub struct Io<'a> {
    #[serde(borrow, default)]
    pub output_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub input_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub manager_key: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub asset_store_key: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
pub struct Enqueued<'a> {
    #[serde(borrow, default)]
    pub code_location_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub repository_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub partition_key: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub struct Freshness<'a> {
    #[serde(borrow)]
    pub key: Object<Key<'a>>,
    #[serde(borrow, default)]
    pub new_state: Named<'a>,
    #[serde(borrow, default)]
    pub previous_state: Named<'a>,
    #[serde(default)]
    pub state_change_timestamp: f64,
}

#[derive(Deserialize)]
pub struct ExpectationResult<'a> {
    pub success: bool,
    #[serde(borrow, default)]
    pub label: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub struct Expectation<'a> {
    #[serde(borrow)]
    pub expectation_result: Object<ExpectationResult<'a>>,
}

#[derive(Deserialize)]
pub struct Member<'a> {
    #[serde(rename = "__enum__", borrow)]
    pub name: Text<'a>,
}

/// A member of an enum: in its wrapper, or by its bare name as old versions wrote it, or null.
#[derive(Default)]
pub struct Named<'a>(Option<Text<'a>>);

impl Named<'_> {
    /// Without the enum's own name; "" for none.
    pub fn name(&self) -> &str {
        or_empty(&self.0).rsplit('.').next().unwrap_or_default()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Named<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Named<'de>;
            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a member of an enum")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Named(None))
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Named(Some(Text(Cow::Borrowed(text)))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Named(Some(Text(Cow::Owned(text.to_owned())))))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Member::deserialize(MapAccessDeserializer::new(map)).map(|member| Named(Some(member.name)))
            }
        }
        from.deserialize_any(Names)
    }
}

/// An object as its pairs, in order.
pub struct Pairs<K, V>(pub Vec<(K, V)>);

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Pairs<K, V> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Maps<K, V>(PhantomData<(K, V)>);
        impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for Maps<K, V> {
            type Value = Pairs<K, V>;
            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        from.deserialize_map(Maps(PhantomData))
    }
}

#[derive(Deserialize)]
pub struct Column<'a> {
    #[serde(borrow)]
    pub asset_key: Object<Key<'a>>,
    #[serde(borrow)]
    pub column_name: Text<'a>,
}

#[derive(Deserialize)]
pub struct ColumnLineage<'a> {
    #[serde(borrow)]
    pub deps_by_column: Pairs<Text<'a>, Vec<Object<Column<'a>>>>,
}
